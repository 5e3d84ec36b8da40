#!/usr/bin/env bash
# Fetch the pictures and names that the backbone is pre-trained on, into the cache folder (first argument).
set -euo pipefail
cache="${1:-$HOME/.cache/interplay/pretrain}"
mkdir -p "$cache/npm" "$cache/deb"

cd "$cache/npm"
[ -f package.json ] || echo '{"private": true}' > package.json
npm install --no-audit --no-fund --ignore-scripts \
    emojibase-data@17.0.0 \
    @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/twemoji@1.2.5 \
    @iconify-json/fluent-emoji@1.2.7 @iconify-json/fluent-emoji-flat@1.2.6 \
    @iconify-json/fluent-emoji-high-contrast@1.2.6 \
    @iconify-json/emojione@1.2.3 @iconify-json/emojione-v1@1.2.3 @iconify-json/emojione-monotone@1.2.1 \
    @iconify-json/fxemoji@1.2.2 @iconify-json/streamline-emojis@1.2.4 \
    @iconify-json/flat-color-icons@1.2.3 @iconify-json/icon-park@1.2.4 @iconify-json/game-icons@1.2.4 \
    @iconify-json/meteocons@1.2.4 \
    @iconify-json/circle-flags@1.2.11 @iconify-json/flag@1.2.12 @iconify-json/flagpack@1.2.8

cd "$cache/deb"
apt-get download openclipart-svg
dpkg-deb -x openclipart-svg_*.deb openclipart-svg
