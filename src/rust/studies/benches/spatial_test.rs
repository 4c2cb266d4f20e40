//! The whole test at the size of the olfactory bulb (260 spots, 14,859 genes, 10 kernels), beside its bare
//! products Uᵀ Y with all eigenvectors.

use criterion::{Criterion, criterion_main};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use patina_core::random::SplitMix64;
use patina_core::{Kernel, Locations, SpatialTest, scales};
use std::time::Duration;

const GENES: usize = 14_859;

fn bulb_sized() -> (Locations, Vec<Kernel>, Mat<f64>) {
    let mut random = SplitMix64::new(1, &[]);
    let coords = Mat::from_fn(260, 2, |i, k| {
        let place = if k == 0 { i % 20 } else { i / 20 };
        place as f64 + 0.1 * random.uniform()
    });
    let locations = Locations::new(coords.as_ref()).expect("good locations");
    let kernels = scales::lengthscales(&locations)
        .into_iter()
        .map(|lengthscale| Kernel::squared_exponential(lengthscale).unwrap())
        .collect();
    // Sparse counts on a log scale, one gene in twenty with a gradient.
    let y = Mat::from_fn(260, GENES, |i, g| {
        let signal = if g % 20 == 0 { 0.2 * coords[(i, 0)] } else { 0.0 };
        (0.7 + (random.uniform() * (1.0 + (g % 7) as f64)).floor()).ln() + signal
    });
    (locations, kernels, y)
}

fn bench(criterion: &mut Criterion) {
    let (locations, kernels, y) = bulb_sized();
    let mut group = criterion.benchmark_group("bulb");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    let u = Mat::from_fn(260, 260, |i, j| ((i * 31 + j * 17) % 101) as f64 / 101.0);
    group.bench_function("bare products", |b| {
        let mut out = Mat::zeros(260, GENES);
        b.iter(|| {
            for _ in 0..10 {
                matmul(out.as_mut(), Accum::Replace, u.transpose(), &y, 1.0, Par::rayon(0));
            }
        });
    });
    group.bench_function("prepare", |b| {
        b.iter(|| SpatialTest::new(&kernels, locations.clone()).expect("spectra"));
    });
    group.bench_function("prepare, calibrated", |b| {
        b.iter(|| {
            SpatialTest::new(&kernels, locations.clone()).and_then(SpatialTest::calibrate).expect("spectra")
        });
    });
    let test = SpatialTest::new(&kernels, locations).expect("spectra");
    group.bench_function("fit", |b| b.iter(|| test.fit(y.as_ref()).expect("fits")));
    let test = test.calibrate().expect("forms");
    group.bench_function("fit, calibrated", |b| b.iter(|| test.fit(y.as_ref()).expect("fits")));
    group.finish();
}

mod groups {
    #![allow(missing_docs)]
    criterion::criterion_group!(benches, super::bench);
}
criterion_main!(groups::benches);
