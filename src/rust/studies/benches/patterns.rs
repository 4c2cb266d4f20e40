//! Patterns of 400 genes at 260 locations: all of 2 to 8 patterns, ten starts each, one lengthscale.

#![allow(missing_docs)] // the macro makes undocumented functions

use criterion::{Criterion, criterion_group, criterion_main};
use faer::Mat;
use patina_core::patterns::{Settings, find_patterns};
use patina_core::{Kernel, Locations, Spectrum};
use std::hint::black_box;

fn patterns(c: &mut Criterion) {
    let coords = Mat::from_fn(260, 2, |i, j| if j == 0 { (i % 16) as f64 } else { (i / 16) as f64 });
    let locations = Locations::new(coords.as_ref()).expect("a lattice");
    let kernel = Kernel::squared_exponential(1.9).unwrap();
    let spectra = [Spectrum::dense(kernel, &locations).expect("a spectrum")];
    // Twelve waves, and noise from a quadratic residue sequence.
    let y = Mat::from_fn(260, 400, |i, g| {
        let wave = (coords[(i, 0)] * (0.2 + 0.1 * (g % 4) as f64) + coords[(i, 1)] * (g % 3) as f64).sin();
        let noise = ((i * 7919 + g * 104_729) % 1009).pow(2) % 1009;
        wave + 4.0 * (noise as f64 / 1009.0 - 0.5)
    });
    let mut group = c.benchmark_group("patterns");
    group.sample_size(10);
    group.bench_function("400 genes, 2..=8 patterns, 10 starts", |b| {
        b.iter(|| find_patterns(&spectra, black_box(y.as_ref()), &Settings::default()).expect("patterns"));
    });
    group.finish();
}

criterion_group!(benches, patterns);
criterion_main!(benches);
