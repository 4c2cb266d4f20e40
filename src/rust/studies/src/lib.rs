//! Benchmarks (`make bench`) and studies (`examples/`) of patina-core. They stand apart so that `cargo test`
//! does not compile them and what they need.
