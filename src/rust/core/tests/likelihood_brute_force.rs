//! The likelihood of random small data against the density of a multivariate normal distribution, written down
//! directly and maximised on a fine grid.

mod common;

use common::Random;
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use patina_core::likelihood::{LOG_DELTA, constant_loglik, log_delta_grid};
use patina_core::spectral::Profile;
use patina_core::{Kernel, Locations, SpatialTest, Spectrum};

/// Density of y under N(B beta, s2 (K + delta I)) with beta by generalised least squares, s2 by maximum likelihood.
fn density(k: &Mat<f64>, design: &Mat<f64>, y: &Mat<f64>, delta: f64) -> (f64, f64) {
    let n = y.nrows();
    let mut v = k.clone();
    for i in 0..n {
        v[(i, i)] += delta;
    }
    let factor = v.llt(Side::Lower).expect("positive definite");
    let vb = factor.solve(design);
    let beta = (design.transpose() * &vb).partial_piv_lu().solve(vb.transpose() * y);
    let residual = y - design * &beta;
    let s2 = (residual.transpose() * factor.solve(&residual))[(0, 0)] / n as f64;
    let log_det = 2.0 * (0..n).map(|i| factor.L()[(i, i)].ln()).sum::<f64>();
    let n = n as f64;
    (-0.5 * (n * (2.0 * std::f64::consts::PI).ln() + n * s2.ln() + log_det + n), beta[(0, 0)])
}

fn kernels() -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> =
        [0.3, 1.0, 3.0].map(|lengthscale| Kernel::squared_exponential(lengthscale).unwrap()).to_vec();
    kernels.push(Kernel::linear());
    kernels
}

fn locations(n: usize, dim: usize, samples: &[usize], random: &mut Random) -> Locations {
    let coords = Mat::from_fn(n, dim, |_, _| 4.0 * random.uniform());
    Locations::with_samples(coords.as_ref(), samples).unwrap()
}

fn dense_kernel(kernel: Kernel, locations: &Locations) -> Mat<f64> {
    let mut k = Mat::zeros(locations.len(), locations.len());
    for rows in locations.samples() {
        let block = kernel.at(locations).block(rows.clone());
        k.as_mut().submatrix_mut(rows.start, rows.start, rows.len(), rows.len()).copy_from(block.as_ref());
    }
    k
}

fn check(n: usize, dim: usize, samples: &[usize], seed: u64) {
    let mut random = Random::new(seed);
    let locations = locations(n, dim, samples, &mut random);
    let design =
        Mat::from_fn(n, samples.len(), |i, p| f64::from(u8::from(locations.samples()[p].contains(&i))));
    for kernel in kernels() {
        // Half of the genes follow a smooth function, half are noise.
        let y = Mat::from_fn(n, 6, |i, g| {
            let x = locations.coords()[(i, 0)];
            7.0 + random.uniform() + if g % 2 == 0 { (x * g as f64).sin() } else { 0.0 }
        });
        let k = dense_kernel(kernel, &locations);
        let test = SpatialTest::new(&[kernel], locations.clone()).unwrap();
        for (g, fit) in test.fit(y.as_ref()).unwrap().iter().enumerate() {
            let best = &fit.best[0];
            let column = Mat::from_fn(n, 1, |i, _| y[(i, g)]);
            let (here, _) = density(&k, &design, &column, best.log_delta.exp());
            assert!(
                (here - best.loglik).abs() < 1e-7 * (1.0 + here.abs()),
                "{kernel:?} {here} {}",
                best.loglik
            );
            let steps = 600;
            let mut top = (f64::NEG_INFINITY, 0.0);
            for step in 0..=steps {
                let x = LOG_DELTA.0 + (LOG_DELTA.1 - LOG_DELTA.0) * step as f64 / steps as f64;
                let (value, _) = density(&k, &design, &column, x.exp());
                if value > top.0 {
                    top = (value, x);
                }
            }
            assert!(best.loglik >= top.0 - 1e-8, "{kernel:?} gene {g}: {} < {}", best.loglik, top.0);
            // The grid's best point is next to the maximum, unless the likelihood is flat there.
            let near = (best.log_delta - top.1).abs() <= 0.06;
            assert!(near || best.loglik - top.0 < 1e-5, "{kernel:?}: {} vs {}", best.log_delta, top.1);
            let mean = column.col(0).iter().sum::<f64>() / n as f64;
            if samples.len() == 1 {
                let (_, beta) = density(&k, &design, &column, best.log_delta.exp());
                assert!((beta - best.mean).abs() < 1e-7 * beta.abs().max(mean), "{beta} {}", best.mean);
            }
        }
    }
}

#[test]
fn standard_errors_are_those_of_the_likelihoods_curvature() {
    let mut random = Random::new(41);
    for samples in [&[60][..], &[25, 35]] {
        let locations = locations(60, 2, samples, &mut random);
        let design =
            Mat::from_fn(60, samples.len(), |i, p| f64::from(u8::from(locations.samples()[p].contains(&i))));
        let kernel = Kernel::squared_exponential(1.0).unwrap();
        let y = Mat::from_fn(60, 8, |i, _| locations.coords()[(i, 0)].sin() + 0.7 * random.normal());
        let k = dense_kernel(kernel, &locations);
        let test = SpatialTest::new(&[kernel], locations).unwrap();
        let gower = test.models()[0].gower();
        let mut compared = 0;
        for (g, fit) in test.fit(y.as_ref()).unwrap().iter().enumerate() {
            let best = &fit.best[0];
            let Some(se) = best.fsv_se else { continue };
            let column = Mat::from_fn(60, 1, |i, _| y[(i, g)]);
            // The profile likelihood as a function of the spatial share itself, by second differences.
            let value = |fsv: f64| density(&k, &design, &column, gower * (1.0 / fsv - 1.0)).0;
            let step = 1e-3 * best.fsv * (1.0 - best.fsv);
            let bend = value(best.fsv + step) - 2.0 * value(best.fsv) + value(best.fsv - step);
            let expected = step / (-bend).sqrt();
            assert!((se / expected - 1.0).abs() < 1e-3, "{se} {expected}");
            // The interval ends where the profile likelihood is 3.0 below its maximum.
            for end in [best.fsv_interval.0, best.fsv_interval.1] {
                if (1e-3..0.999).contains(&end) {
                    let drop = value(best.fsv) - value(end);
                    assert!((drop - 3.0).abs() < 0.1, "{end}: {drop}");
                }
            }
            compared += 1;
        }
        assert!(compared >= 4, "{compared}");
    }
}

#[test]
fn agrees_with_the_normal_density_in_one_two_and_three_dimensions() {
    for (seed, n) in [8, 13, 24, 40].into_iter().enumerate() {
        for dim in 1..=3 {
            check(n, dim, &[n], 10 * seed as u64 + dim as u64);
        }
    }
}

#[test]
fn agrees_with_the_normal_density_for_several_samples() {
    check(30, 2, &[11, 5, 14], 99);
}

#[test]
fn slope_and_curvature_are_derivatives() {
    let mut random = Random::new(5);
    for samples in [&[20][..], &[8, 12]] {
        let locations = locations(20, 2, samples, &mut random);
        for kernel in kernels() {
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let profile = Profile::new(&spectrum);
            let y = Mat::from_fn(20, 1, |i, _| if i % 3 == 0 { 1.0 } else { -0.5 * random.uniform() });
            let test_y = centre(&y, &locations);
            let mut z = Mat::zeros(spectrum.rank(), 1);
            spectrum.project(test_y.as_ref(), z.as_mut());
            let squares: Vec<f64> = locations
                .samples()
                .iter()
                .map(|rows| rows.clone().map(|i| test_y[(i, 0)].powi(2)).sum())
                .collect();
            let gene = profile.gene(z.col_as_slice(0), |p| squares[p]);
            for x in [-3.0, 0.0, 2.5, 8.0] {
                let (low, here, high) = (gene.evaluate(x - 1e-4), gene.evaluate(x), gene.evaluate(x + 1e-4));
                let slope = (high.value - low.value) / 2e-4;
                let curvature = (high.slope - low.slope) / 2e-4;
                assert!((slope - here.slope).abs() < 1e-6 * (1.0 + slope.abs()), "{slope} {}", here.slope);
                assert!((curvature - here.curvature).abs() < 1e-6 * (1.0 + curvature.abs()));
            }
        }
    }
}

fn centre(y: &Mat<f64>, locations: &Locations) -> Mat<f64> {
    let mut out = y.clone();
    for rows in locations.samples() {
        let mean = rows.clone().map(|i| y[(i, 0)]).sum::<f64>() / rows.len() as f64;
        rows.clone().for_each(|i| out[(i, 0)] -= mean);
    }
    out
}

#[test]
fn without_signal_the_likelihood_tends_to_the_constant_model() {
    let mut random = Random::new(1);
    let locations = locations(12, 2, &[12], &mut random);
    let y = Mat::from_fn(12, 1, |i, _| if i % 2 == 0 { 1.0 } else { -1.0 });
    let spectrum = Spectrum::dense(Kernel::squared_exponential(3.0).unwrap(), &locations).unwrap();
    let profile = Profile::new(&spectrum);
    let mut z = Mat::zeros(spectrum.rank(), 1);
    spectrum.project(y.as_ref(), z.as_mut());
    let gene = profile.gene(z.col_as_slice(0), |_| 12.0);
    assert!((gene.evaluate(20.0).value - constant_loglik(12)).abs() < 1e-6);
    assert_eq!(*log_delta_grid().last().unwrap(), LOG_DELTA.1);
}

#[test]
fn results_do_not_depend_on_neighbours_or_threads() {
    let mut random = Random::new(3);
    let locations = locations(60, 2, &[60], &mut random);
    let y = Mat::from_fn(60, 300, |_, _| random.uniform());
    let test = SpatialTest::new(&kernels(), locations).unwrap();
    let all = test.fit(y.as_ref()).unwrap();
    for g in [0, 1, 127, 128, 299] {
        assert_eq!(test.fit(y.as_ref().subcols(g, 1)).unwrap()[0], all[g]);
    }
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| test.fit(y.as_ref()).unwrap()), all);
    }
}

#[test]
fn a_bad_gene_keeps_its_place_and_changes_nothing() {
    let mut random = Random::new(4);
    let locations = locations(30, 2, &[30], &mut random);
    let mut y = Mat::from_fn(30, 5, |_, _| random.uniform());
    let test = SpatialTest::new(&kernels(), locations).unwrap();
    let good = test.fit(y.as_ref()).unwrap();
    y[(3, 1)] = f64::NAN;
    y.col_mut(2).fill(4.0);
    y[(9, 3)] = f64::INFINITY;
    let fits = test.fit(y.as_ref()).unwrap();
    let statuses: Vec<&str> = fits.iter().map(|f| f.status.name()).collect();
    assert_eq!(statuses, ["ok", "non-finite", "constant", "non-finite", "ok"]);
    assert_eq!((&fits[0], &fits[4]), (&good[0], &good[4]));
}
