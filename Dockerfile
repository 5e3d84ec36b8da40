# interplay serve: one process for all runs of /models, at port 8000. See docs/guides/serve.md.
FROM python:3.12-slim

WORKDIR /opt/interplay
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt ".[serve]" \
    && useradd --create-home --uid 10001 interplay

USER interplay
WORKDIR /home/interplay
VOLUME ["/models"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/healthz', timeout=5)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["interplay"]
CMD ["serve", "--models", "/models", "--host", "0.0.0.0", "--token-file", "/run/secrets/tokens"]
