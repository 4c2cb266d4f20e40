//! R's way into patina-core: conversions and nothing else.

use extendr_api::prelude::*;

/// The version of the compiled core.
/// @noRd
#[extendr]
fn rust_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

extendr_module! {
    mod patina;
    fn rust_version;
}
