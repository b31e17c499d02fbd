//! `GET /`: where a browser lands until the dashboard is there.

use axum::response::Html;

/// A plain page that says what this is and where to go.
pub async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}
