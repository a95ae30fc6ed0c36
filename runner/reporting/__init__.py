"""The dashboards as files: one HTML page, or an image a card. docs/dashboards.md says what is drawn how."""
