//! Patterns: the bound against dense algebra, recovery of known patterns, and SpatialDE's README example.

mod common;

use faer::linalg::solvers::Llt;
use faer::prelude::*;
use faer::{Mat, Side};
use patina_core::patterns::{Fitted, Patterns, Settings, find_patterns, predict};
use patina_core::{Error, Kernel, Locations, Spectrum};
use std::f64::consts::PI;

/// A small generator: the tests' own, so that they do not share the core's.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * PI * self.uniform()).cos()
    }
}

fn points(n: usize, width: f64, random: &mut Random) -> Mat<f64> {
    Mat::from_fn(n, 2, |_, _| width * random.uniform())
}

fn se(lengthscale: f64) -> Kernel {
    Kernel::squared_exponential(lengthscale).unwrap()
}

fn settings(n_patterns: impl IntoIterator<Item = usize>) -> Settings {
    Settings { n_patterns: n_patterns.into_iter().collect(), ..Settings::default() }
}

/// Genes that are noisy copies of smooth fields drawn from the prior, and the field of each.
fn simulate(
    coords: &Mat<f64>,
    lengthscale: f64,
    sizes: &[usize],
    noise_sd: f64,
    random: &mut Random,
) -> (Mat<f64>, Vec<usize>) {
    let n = coords.nrows();
    let locations = Locations::new(coords.as_ref()).unwrap();
    let mut k = se(lengthscale).at(&locations).block(0..n);
    (0..n).for_each(|i| k[(i, i)] += 1e-9);
    let factor = Llt::new(k.as_ref(), Side::Lower).unwrap();
    let white = Mat::from_fn(n, sizes.len(), |_, _| random.normal());
    let fields = factor.L() * &white;
    let truth: Vec<usize> = (0..sizes.len()).flat_map(|k| vec![k; sizes[k]]).collect();
    let y = Mat::from_fn(n, truth.len(), |i, g| fields[(i, truth[g])] + noise_sd * random.normal());
    (y, truth)
}

fn standardised(y: &Mat<f64>) -> Mat<f64> {
    let n = y.nrows() as f64;
    let mut out = common::centred(y);
    for g in 0..y.ncols() {
        let sd = (out.col(g).iter().map(|x| x * x).sum::<f64>() / n).sqrt();
        out.col_mut(g).iter_mut().for_each(|x| *x /= sd);
    }
    out
}

fn log_det(a: &Mat<f64>) -> f64 {
    let factor = Llt::new(a.as_ref(), Side::Lower).unwrap();
    (0..a.nrows()).map(|i| 2.0 * factor.L()[(i, i)].ln()).sum()
}

fn trace(a: &Mat<f64>) -> f64 {
    (0..a.nrows()).map(|i| a[(i, i)]).sum()
}

fn adjusted_rand(a: &[usize], b: &[usize]) -> f64 {
    let pairs = |n: usize| (n * n.saturating_sub(1)) as f64 / 2.0;
    let (ka, kb) = (a.iter().max().unwrap() + 1, b.iter().max().unwrap() + 1);
    let mut table = vec![vec![0usize; kb]; ka];
    a.iter().zip(b).for_each(|(&i, &j)| table[i][j] += 1);
    let both: f64 = table.iter().flatten().map(|&x| pairs(x)).sum();
    let rows: f64 = table.iter().map(|row| pairs(row.iter().sum())).sum();
    let cols: f64 = (0..kb).map(|j| pairs(table.iter().map(|row| row[j]).sum())).sum();
    let expected = rows * cols / pairs(a.len());
    (both - expected) / (0.5 * (rows + cols) - expected)
}

/// The bound at the result's q(z), s2 and pi, computed with K itself: its inverse and log det.
fn dense_bound(fit: &Patterns, k: &Mat<f64>, y: &Mat<f64>) -> f64 {
    let (n, genes) = y.shape();
    let (r, s2) = (&fit.responsibilities, fit.noise);
    let identity = Mat::<f64>::identity(n, n);
    let inverse = Llt::new(k.as_ref(), Side::Lower).unwrap().solve(&identity);
    let mut bound = 0.0;
    for c in 0..r.ncols() {
        let size: f64 = r.col(c).iter().sum();
        let precision = &inverse + Scale(size / s2) * &identity;
        let sigma = Llt::new(precision.as_ref(), Side::Lower).unwrap().solve(&identity);
        let m = &sigma * (y * r.col(c)) * Scale(1.0 / s2);
        let quadratic = (m.transpose() * &inverse) * &m;
        // KL(q(mu) || N(0, K))
        bound -= 0.5 * (trace(&(&inverse * &sigma)) + quadratic - n as f64 + log_det(k) - log_det(&sigma));
        for g in 0..genes {
            let residual: f64 = (0..n).map(|i| (y[(i, g)] - m[i]).powi(2)).sum();
            let log_lik = -0.5 * n as f64 * (2.0 * PI * s2).ln() - (residual + trace(&sigma)) / (2.0 * s2);
            let p = r[(g, c)];
            if p > 0.0 {
                bound += p * (log_lik + fit.weights[c].ln() - p.ln());
            }
        }
    }
    bound
}

#[test]
fn bound_agrees_with_dense_algebra() {
    let mut random = Random(3);
    for (noise_sd, c) in [(0.5, 2), (3.0, 3), (1.0, 1)] {
        let coords = points(30, 8.0, &mut random);
        let locations = Locations::new(coords.as_ref()).unwrap();
        let (y, _) = simulate(&coords, 1.0, &[5, 4], noise_sd, &mut random);
        let spectrum = Spectrum::dense(se(1.0), &locations).unwrap();
        let fit = find_patterns(std::slice::from_ref(&spectrum), y.as_ref(), &settings([c])).unwrap();
        let k = se(1.0).at(&locations).block(0..30);
        let dense = dense_bound(&fit, &k, &standardised(&y));
        let bound = *fit.elbo.last().unwrap();
        assert!((bound - dense).abs() < 1e-6 * dense.abs(), "{bound} {dense}");
    }
}

#[test]
fn one_pattern_gives_the_exact_marginal_likelihood() {
    // With C = 1 nothing is approximated: vec(Y) ~ N(0, 11' (x) K + s2 I). Repeated locations make K singular.
    let mut random = Random(5);
    let mut coords = points(12, 4.0, &mut random);
    for i in 0..4 {
        (0..2).for_each(|j| coords[(i, j)] = coords[(i + 4, j)]);
    }
    let locations = Locations::new(coords.as_ref()).unwrap();
    let (y, _) = simulate(&coords, 1.5, &[4], 0.7, &mut random);
    let spectrum = Spectrum::dense(se(1.5), &locations).unwrap();
    assert!(spectrum.rank() < 12);
    let fit = find_patterns(&[spectrum], y.as_ref(), &settings([1])).unwrap();
    let (k, y) = (se(1.5).at(&locations).block(0..12), standardised(&y));
    let covariance = Mat::from_fn(48, 48, |a, b| k[(a % 12, b % 12)] + if a == b { fit.noise } else { 0.0 });
    let stacked = Mat::from_fn(48, 1, |a, _| y[(a % 12, a / 12)]);
    let solved = Llt::new(covariance.as_ref(), Side::Lower).unwrap().solve(&stacked);
    let quadratic: f64 = (0..48).map(|a| stacked[(a, 0)] * solved[(a, 0)]).sum();
    let exact = -0.5 * (48.0 * (2.0 * PI).ln() + log_det(&covariance) + quadratic);
    let bound = *fit.elbo.last().unwrap();
    assert!((bound - exact).abs() < 1e-7 * exact.abs(), "{bound} {exact}");
}

#[test]
fn bound_never_decreases() {
    let mut random = Random(7);
    for round in 0..12 {
        let coords = points(40, 10.0, &mut random);
        let locations = Locations::new(coords.as_ref()).unwrap();
        // From clear patterns to pure noise, where memberships are soft.
        let noise = [0.3, 1.0, 3.0, 30.0][round % 4];
        let (y, _) = simulate(&coords, 2.0, &[6, 5, 4, 1], noise, &mut random);
        let spectrum = Spectrum::dense(se(0.5 + round as f64 * 0.4), &locations).unwrap();
        let single = Settings { restarts: 1, seed: round as u64, ..settings([1 + round % 6]) };
        let fit = find_patterns(&[spectrum], y.as_ref(), &single).unwrap();
        for pair in fit.elbo.windows(2) {
            assert!(pair[1] >= pair[0] - 1e-9 * pair[0].abs(), "{pair:?}");
        }
        let total: f64 = fit.weights.iter().sum();
        assert!((total - 1.0).abs() < 1e-12);
        for g in 0..y.ncols() {
            let row: f64 = fit.responsibilities.row(g).iter().sum();
            assert!((row - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn known_patterns_are_found_and_counted() {
    let mut random = Random(11);
    let coords = points(150, 12.0, &mut random);
    let locations = Locations::new(coords.as_ref()).unwrap();
    let (y, truth) = simulate(&coords, 2.0, &[12, 20, 7, 15], 1.0, &mut random);
    let kernels = [0.5, 2.0, 6.0].map(se);
    let spectra = Spectrum::dense_all(&kernels, &locations).unwrap();
    let fit = find_patterns(&spectra, y.as_ref(), &settings(1..=7)).unwrap();
    assert_eq!(fit.weights.len(), 4);
    assert_eq!(fit.kernel, se(2.0));
    assert_eq!(adjusted_rand(&fit.assignment, &truth), 1.0);
    // Numbered by size: 20, 15, 12, 7 genes.
    assert_eq!([fit.assignment[12], fit.assignment[39], fit.assignment[0], fit.assignment[32]], [0, 1, 2, 3]);
    assert_eq!(fit.selection.len(), 21);
    // What the model cannot use is pruned.
    assert!(fit.selection.iter().all(|c| c.found <= c.n_patterns));
}

#[test]
fn results_do_not_depend_on_threads_or_on_other_candidates() {
    let mut random = Random(13);
    let coords = points(60, 8.0, &mut random);
    let locations = Locations::new(coords.as_ref()).unwrap();
    let (y, _) = simulate(&coords, 1.5, &[8, 6, 5], 1.5, &mut random);
    let spectra = Spectrum::dense_all(&[se(1.0), se(1.5)], &locations).unwrap();
    let fits: Vec<Patterns> = [1, 3]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| find_patterns(&spectra, y.as_ref(), &settings(2..=5)).unwrap())
        })
        .into();
    assert_eq!(fits[0].elbo, fits[1].elbo);
    assert_eq!(fits[0].means, fits[1].means);
    assert_eq!(fits[0].responsibilities, fits[1].responsibilities);
    assert_eq!(fits[0].selection, fits[1].selection);
    let alone = find_patterns(&spectra[1..], y.as_ref(), &settings([3])).unwrap();
    let same = fits[0].selection.iter().find(|c| c.lengthscale == 1.5 && c.n_patterns == 3).unwrap();
    assert_eq!(alone.selection[0], *same);
}

#[test]
fn prediction_at_the_locations_is_the_fit_and_elsewhere_dense_kriging() {
    let mut random = Random(17);
    let coords = points(40, 6.0, &mut random);
    // Two samples, whose points do not know of each other.
    let locations = Locations::with_samples(coords.as_ref(), &[25, 15]).unwrap();
    let (y, _) = simulate(&coords, 1.5, &[5, 4], 0.7, &mut random);
    let spectrum = Spectrum::dense(se(1.5), &locations).unwrap();
    let fit = find_patterns(std::slice::from_ref(&spectrum), y.as_ref(), &settings([2])).unwrap();
    let sizes: Vec<f64> = fit.weights.iter().map(|w| w * 9.0).collect();
    let fitted = Fitted { coefficients: fit.coefficients.as_ref(), sizes: &sizes, noise: fit.noise };
    let own: Vec<usize> = (0..40).map(|i| usize::from(i >= 25)).collect();
    let here = predict(&spectrum, &locations, fitted, coords.as_ref(), &own).unwrap();
    for k in 0..2 {
        for i in 0..40 {
            assert!((here.means[(i, k)] - fit.means[(i, k)]).abs() < 1e-9);
        }
    }
    // Kriging in the second sample, with noise s2 / R on the mean of its genes.
    let new = Mat::from_fn(3, 2, |i, j| 1.0 + i as f64 + 0.3 * j as f64);
    let there = predict(&spectrum, &locations, fitted, new.as_ref(), &[1, 1, 1]).unwrap();
    let all = Mat::from_fn(18, 2, |i, j| if i < 15 { coords[(25 + i, j)] } else { new[(i - 15, j)] });
    let joint = se(1.5).at(&Locations::new(all.as_ref()).unwrap()).block(0..18);
    let y = standardised(&y);
    for (k, &size) in sizes.iter().enumerate() {
        let r = fit.responsibilities.col(k);
        let v = Mat::from_fn(15, 15, |i, j| joint[(i, j)] + if i == j { fit.noise / size } else { 0.0 });
        let factor = Llt::new(v.as_ref(), Side::Lower).unwrap();
        let target = Mat::from_fn(15, 1, |i, _| (0..9).map(|g| r[g] * y[(25 + i, g)]).sum::<f64>() / size);
        let cross = Mat::from_fn(15, 3, |i, j| joint[(i, 15 + j)]);
        let solved = factor.solve(&cross);
        for j in 0..3 {
            let mean: f64 = (0..15).map(|i| solved[(i, j)] * target[(i, 0)]).sum();
            let var = 1.0 - (0..15).map(|i| solved[(i, j)] * cross[(i, j)]).sum::<f64>();
            assert!((there.means[(j, k)] - mean).abs() < 1e-8);
            assert!((there.std_errors[(j, k)] - var.sqrt()).abs() < 1e-7);
        }
    }
    // Far from everything nothing is known.
    let far = Mat::from_fn(1, 2, |_, _| 1e3);
    let far = predict(&spectrum, &locations, fitted, far.as_ref(), &[0]).unwrap();
    assert_eq!((far.means[(0, 0)], far.std_errors[(0, 0)]), (0.0, 1.0));
}

#[test]
fn few_and_bad_genes() {
    let mut random = Random(19);
    let coords = points(20, 5.0, &mut random);
    let locations = Locations::new(coords.as_ref()).unwrap();
    let spectrum = [Spectrum::dense(se(1.0), &locations).unwrap()];
    let (y, _) = simulate(&coords, 1.0, &[3], 0.5, &mut random);

    let one = find_patterns(&spectrum, y.subcols(0, 1), &settings([1])).unwrap();
    assert_eq!((one.assignment.as_slice(), one.weights.as_slice()), (&[0][..], &[1.0][..]));
    let many = find_patterns(&spectrum, y.as_ref(), &settings([4]));
    assert!(matches!(many, Err(Error::Parameter { name: "n_patterns", .. })));

    let mut bad = y.clone();
    bad[(3, 1)] = f64::NAN;
    assert!(matches!(
        find_patterns(&spectrum, bad.as_ref(), &settings([1])),
        Err(Error::Parameter { name: "gene", value: 2.0, .. })
    ));
    let mut constant = y.clone();
    constant.col_mut(2).fill(0.1);
    assert!(matches!(
        find_patterns(&spectrum, constant.as_ref(), &settings([1])),
        Err(Error::Parameter { name: "gene", value: 3.0, .. })
    ));

    // The same gene over and over: one pattern, whatever is asked for.
    let copies = Mat::from_fn(20, 6, |i, _| y[(i, 0)]);
    let copies = find_patterns(&spectrum, copies.as_ref(), &settings([3])).unwrap();
    assert_eq!(copies.weights.len(), 1);
    assert!(copies.noise > 0.0 && copies.elbo.iter().all(|b| b.is_finite()));
}

/// The 20 genes of SpatialDE's README example, prepared as there, and the patterns printed there.
fn readme_example() -> Option<(Locations, Mat<f64>, Vec<usize>)> {
    let printed = common::reference_table("mob_readme_aeh.csv")?;
    let info = common::Table::read(&common::data("MOB_sample_info.csv")?, ',');
    let bulb = common::bulb()?;
    let totals: Vec<f64> = bulb
        .spots
        .iter()
        .map(|spot| info.column("total_counts")[info.rows.iter().position(|s| s == spot).unwrap()])
        .collect();
    let residuals = common::anscombe(&bulb.counts, &totals);
    let genes: Vec<usize> = printed.text("g").iter().map(|name| bulb.gene(name).unwrap()).collect();
    let y = Mat::from_fn(residuals.nrows(), genes.len(), |i, g| residuals[(i, genes[g])]);
    let truth = printed.column("pattern").iter().map(|&k| k as usize).collect();
    Some((Locations::new(bulb.coords.as_ref()).unwrap(), y, truth))
}

#[test]
fn readme_example_reaches_the_best_known_bound() {
    let Some((locations, y, printed)) = readme_example() else { return };
    let grid = [0.5, 0.8, 1.1, 1.5, 1.8, 2.5, 4.0].map(se);
    let spectra = Spectrum::dense_all(&grid, &locations).unwrap();
    let fit = find_patterns(&spectra, y.as_ref(), &settings([3])).unwrap();
    assert_eq!(fit.kernel, se(1.8));
    let bound = *fit.elbo.last().unwrap();
    assert!((bound - -7150.9330).abs() < 1e-3, "{bound}");

    // The most genes that agree under a renaming of the three patterns.
    let agree = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        .map(|name| fit.assignment.iter().zip(&printed).filter(|&(&a, &b)| name[a] == b).count());
    assert_eq!(*agree.iter().max().unwrap(), 16);

    // The bound by number of patterns, 2 to 8: the sixth is worth 6.5, a seventh or eighth find no use.
    let by_count = find_patterns(&spectra[4..5], y.as_ref(), &settings(2..=8)).unwrap().selection;
    let best_known = [-7221.9115, -7150.9334, -7142.4007, -7134.1314, -7127.6356, -7127.6356, -7127.6356];
    for (candidate, best) in by_count.iter().zip(best_known) {
        assert!((candidate.bound - best).abs() < 1e-3, "{candidate:?}");
        assert_eq!(candidate.found, candidate.n_patterns.min(6));
    }
}
