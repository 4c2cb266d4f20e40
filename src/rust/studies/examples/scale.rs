//! Time and memory against size: `scale LAYOUT N GENES [APPROXIMATION] [calibrated|check]`.
//!
//! LAYOUT is `hexagons` (a lattice of spacing 1, 64 wide for 4,000) or `scattered` (irregular points of density 1). One gene
//! in four has a smooth pattern, one in four a fine one. Prints a line of figures for each stage; `check` compares with
//! dense decompositions.

#[path = "../../core/tests/common/mod.rs"]
mod common;

use common::Random;
use faer::Mat;
use patina_core::spatial_test::{GeneFit, Status};
use patina_core::{Approximation, Kernel, Locations, Request, SpatialTest, scales};
use std::time::Instant;

fn locations(layout: &str, n: usize) -> Locations {
    let mut random = Random::new(1);
    let side = (n as f64).sqrt();
    let width = (n as f64 * 0.866).sqrt().mul_add(1.0, 5.0).floor() as usize;
    let coords = match layout {
        "hexagons" => Mat::from_fn(n, 2, |i, k| {
            let (row, column) = (i / width, i % width);
            if k == 0 { column as f64 + 0.5 * (row % 2) as f64 } else { row as f64 * 0.75f64.sqrt() }
        }),
        _ => Mat::from_fn(n, 2, |_, _| side * random.uniform()),
    };
    Locations::new(coords.as_ref()).expect("locations")
}

/// Four kinds of genes: two of noise, one smooth pattern, one fine one; strengths vary.
fn genes(locations: &Locations, count: usize) -> Mat<f64> {
    let mut random = Random::new(2);
    let extent = locations.distance_range().1;
    let mut y = Mat::zeros(locations.len(), count);
    for g in 0..count {
        let strength = [0.0, 0.0, 1.0, 1.0][g % 4] * [0.1, 0.3, 0.6, 1.0, 2.0][g / 4 % 5];
        let scale = if g % 4 == 2 { extent / (3.0 + (g % 17) as f64) } else { 2.0 + (g % 13) as f64 };
        let (a, b) = ((g as f64 * 0.7).cos(), (g as f64 * 0.7).sin());
        for i in 0..locations.len() {
            let (u, v) = (locations.coords()[(i, 0)] / scale, locations.coords()[(i, 1)] / scale);
            let wave = (a * u + b * v + g as f64).sin() * (a * v - b * u).cos();
            y[(i, g)] = strength * 2.0 * wave + random.normal();
        }
    }
    y
}

/// Peak resident memory so far, in GB, where the system tells.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e6
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: usize| arguments.get(i).map_or(default, |a| a.parse().expect("a number"));
    let layout = arguments.first().map_or("hexagons", String::as_str);
    let (n, count) = (number(1, 4000), number(2, 2000));
    let approximation = arguments.get(3).map_or("auto", String::as_str);
    let option = arguments.get(4).map_or("", String::as_str);

    let locations = locations(layout, n);
    let start = Instant::now();
    let grid = scales::lengthscales(&locations);
    let kernels: Vec<Kernel> =
        grid.iter().map(|&lengthscale| Kernel::squared_exponential(lengthscale).unwrap()).collect();
    println!("grid: {:.2} s", start.elapsed().as_secs_f64());
    let y = genes(&locations, count);
    println!("start: {:.2} GB", peak());

    let prepare = |name: &str| {
        let request = Request::test(Approximation::from_name(name).expect("an approximation"));
        SpatialTest::with_groups(&kernels, &[0; 10], locations.clone(), request).expect("kernels")
    };
    let start = Instant::now();
    let mut test = prepare(approximation);
    println!("kernels: {:.2} s, {:.2} GB", start.elapsed().as_secs_f64(), peak());
    for (kernel, model) in kernels.iter().zip(test.models()) {
        println!(
            "  l {:9.4}: {} rank {} error bound {:.1e}",
            kernel.scale(),
            model.engine(),
            model.rank(),
            model.error_bound()
        );
    }
    if option == "calibrated" {
        let start = Instant::now();
        test = test.calibrate().expect("null forms");
        println!("null forms: {:.2} s, {:.2} GB", start.elapsed().as_secs_f64(), peak());
    }
    let start = Instant::now();
    let fits = test.fit(y.as_ref()).expect("fits");
    println!("genes: {:.2} s, {:.2} GB", start.elapsed().as_secs_f64(), peak());
    let failed = fits.iter().filter(|fit| fit.status != Status::Ok).count();
    println!("{failed} of {count} genes did not converge");
    if option == "calibrated" {
        let small = |kinds: [usize; 2]| {
            let own = fits.iter().enumerate().filter(|(g, _)| kinds.contains(&(g % 4)));
            let p = own.map(|(_, fit)| fit.calibrated.map_or(f64::NAN, |p| p.pval));
            p.fold([0, 0, 0], |[all, five, one], p| {
                [all + 1, five + i32::from(p <= 0.05), one + i32::from(p <= 1e-3)]
            })
        };
        println!("p-values (all, <= .05, <= .001): noise {:?}, patterns {:?}", small([0, 1]), small([2, 3]));
    }
    if option == "check" {
        let exact = prepare("exact").fit(y.as_ref()).expect("fits");
        let off = |(own, exact): (&GeneFit, &GeneFit)| -> f64 {
            own.best.first().map_or(0.0, |b| {
                let truth = exact.best[0].llr;
                (b.llr - truth).abs() / (0.02 + 1e-4 * truth)
            })
        };
        let worst = fits.iter().zip(&exact).map(off).fold(0.0, f64::max);
        println!("largest error of a log likelihood ratio: {worst:.4} of what is allowed");
    }
}
