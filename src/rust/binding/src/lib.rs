//! R's way into patina-core: conversions and nothing else.

mod convert;
mod qvalue;
mod spatial_test;

use extendr_api::prelude::*;

extendr_module! {
    mod patina;
    use qvalue;
    use spatial_test;
}
