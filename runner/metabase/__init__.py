"""The dashboards at a Metabase: plan, push, pull and export. docs/metabase.md says what each does."""
