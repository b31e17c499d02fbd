//! deploys
