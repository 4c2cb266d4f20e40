//! Standard errors and intervals of the spatial share against draws whose share is known.

mod common;

use common::Random;
use faer::{Mat, MatRef};
use patina_core::spatial_test::{KernelFit, Status};
use patina_core::{Kernel, Locations, SpatialTest, Spectrum};

const COUNT: usize = 500;

/// Draws of N(0, K / Gower factor) with a share `fsv` of the variance, and noise.
fn draws(locations: &Locations, kernel: Kernel, gower: f64, fsv: f64, random: &mut Random) -> Mat<f64> {
    let spectrum = Spectrum::dense(kernel, locations).unwrap();
    let mut y = Mat::from_fn(locations.len(), COUNT, |_, _| (1.0 - fsv).sqrt() * random.normal());
    let mut first = 0;
    for block in spectrum.blocks() {
        let vectors = block.vectors();
        let u: MatRef<'_, f64> = vectors.as_ref().as_ref();
        let values = &spectrum.values()[first..first + u.ncols()];
        let z = Mat::from_fn(u.ncols(), COUNT, |k, _| {
            (fsv / gower * values[k].max(0.0)).sqrt() * random.normal()
        });
        let own = u * &z;
        for g in 0..COUNT {
            (0..u.nrows()).for_each(|i| y[(block.start() + i, g)] += own[(i, g)]);
        }
        first += u.ncols();
    }
    y
}

/// The fits of draws with shares of one kernel that is known, and the share that fsv counts.
fn fits(sizes: &[usize], lengthscale: f64, fsv: f64, seed: u64) -> (Vec<KernelFit>, f64) {
    let mut random = Random::new(seed);
    let n: usize = sizes.iter().sum();
    let side = (n as f64).sqrt();
    let coords = Mat::from_fn(n, 2, |_, _| side * random.uniform());
    let locations = Locations::with_samples(coords.as_ref(), sizes).unwrap();
    let kernel = Kernel::squared_exponential(lengthscale).unwrap();
    let test = SpatialTest::new(&[kernel], locations.clone()).unwrap().shared_variance();
    let gower = test.models()[0].gower();
    let y = draws(&locations, kernel, gower, fsv, &mut random);
    let fits = test.fit(y.as_ref()).unwrap();
    let fits = fits.into_iter().map(|fit| {
        assert_eq!(fit.status, Status::Ok);
        fit.best[0]
    });
    let unshared = patina_core::unshared::unshared(&[kernel], &locations)[0];
    (fits.collect(), fsv * (1.0 - unshared / gower))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[test]
fn standard_errors_are_what_estimates_scatter_by() {
    // A standard deviation of 500 draws has an error of 3 %. The last kernel has a part that is unshared.
    for (sizes, lengthscale, fsv, seed) in
        [(&[400][..], 1.6, 0.5, 1), (&[250, 150], 1.6, 0.4, 2), (&[400], 1.6, 0.7, 3), (&[400], 0.8, 0.6, 4)]
    {
        let (fits, expected) = fits(sizes, lengthscale, fsv, seed);
        let centre = mean(fits.iter().map(|fit| fit.fsv));
        let sd = mean(fits.iter().map(|fit| (fit.fsv - centre).powi(2))).sqrt();
        let errors: Vec<f64> = fits.iter().filter_map(|fit| fit.fsv_se).collect();
        let known = errors.len();
        let error = mean(errors.into_iter());
        println!(
            "{sizes:?} {lengthscale} {fsv}: mean {centre:.3} of {expected:.3}, sd {sd:.4}, se {error:.4}"
        );
        assert!(known >= COUNT * 97 / 100, "{known}");
        assert!((centre - expected).abs() < 0.02, "{centre} {expected}");
        assert!((0.87..1.15).contains(&(error / sd)), "se {error}, sd {sd}");
    }
}

#[test]
fn intervals_are_as_wide_as_standard_errors_say_and_cover() {
    // Where the likelihood is a parabola the interval ends sqrt(2 · 3.0) standard errors from the maximum, and covers
    // a single known kernel's share with P(χ²₁ < 6.0) = .986.
    for (lengthscale, fsv, seed) in [(1.6, 0.5, 5), (1.6, 0.6, 6), (0.8, 0.6, 7)] {
        let (fits, truth) = fits(&[400], lengthscale, fsv, seed);
        let width = |fit: &KernelFit| {
            let (low, high) = fit.fsv_interval;
            assert!(low <= fit.fsv && fit.fsv <= high, "{fit:?}");
            fit.fsv_se.map(|se| 0.5 * (high - low) / (se * 2.0 * 3.0_f64.sqrt() / 2.0_f64.sqrt()))
        };
        let widths: Vec<f64> = fits.iter().filter_map(width).collect();
        let ratio = mean(widths.into_iter());
        let covered = fits.iter().filter(|fit| fit.fsv_interval.0 <= truth && truth <= fit.fsv_interval.1);
        let covered = covered.count() as f64 / COUNT as f64;
        println!("{lengthscale} {fsv}: widths {ratio:.3} of what errors say, {covered} covered");
        assert!((0.93..1.07).contains(&ratio), "{ratio}");
        assert!((0.97..0.998).contains(&covered), "{covered}");
    }
}

#[test]
fn variances_add_up_to_what_shares_say() {
    for (sizes, lengthscale) in [(&[400][..], 0.8), (&[250, 150], 0.8), (&[400], 1.6)] {
        let (fits, _) = fits(sizes, lengthscale, 0.6, 8);
        for fit in &fits {
            let total = fit.var_spatial + fit.var_noise;
            assert!((fit.var_spatial / total - fit.fsv).abs() < 1e-12, "{fit:?}");
        }
        // Whatever of it is unshared, the variance of draws is 1.
        let total = mean(fits.iter().map(|fit| fit.var_spatial + fit.var_noise));
        assert!((total - 1.0).abs() < 0.02, "{total}");
    }
}
