//! R's way into patina-core: conversions and nothing else.

mod convert;
mod depth;
mod factors;
mod fields;
mod patterns;
mod qvalue;
mod run;
mod spatial_test;

use extendr_api::prelude::*;

/// Keeps errors from printing: they reach R as conditions, by way of a panic.
/// @noRd
#[extendr]
fn rust_silence_panics() {
    std::panic::set_hook(Box::new(|_| ()));
}

extendr_module! {
    mod patina;
    fn rust_silence_panics;
    use depth;
    use factors;
    use fields;
    use patterns;
    use qvalue;
    use spatial_test;
}
