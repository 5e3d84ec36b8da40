"""The service in the browser: four tabs over the same core as the routes; Gradio is imported when it is opened."""
