//! Fuzzing on stable Rust: random input to each border of the core, and what must hold whatever it is.
//!
//! Each case is made from a seed alone. `cargo test` runs those in `fuzz_corpus.txt` (every seed that ever failed belongs
//! there) and new ones for two seconds a target; `make fuzz` for as long as `PATINA_FUZZ_SECONDS` says, from the seed
//! `PATINA_FUZZ_SEED`, with debug assertions and overflow checks. A failure names its target and seed.

use faer::{Mat, Side};
use patina_core::domains::find_domains;
use patina_core::engine::Fit;
use patina_core::factors::{self, find_factors};
use patina_core::null::combine;
use patina_core::patterns::{Settings, find_patterns};
use patina_core::qvalue::{estimate_pi0, qvalues};
use patina_core::random::SplitMix64;
use patina_core::spatial_test::{GeneFit, Status};
use patina_core::{Approximation, Kernel, Locations, Request, SpatialTest, prepare, storage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const CORPUS: &str = include_str!("fuzz_corpus.txt");

fn fuzz(target: &str, case: fn(&mut SplitMix64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = Duration::from_secs(number("PATINA_FUZZ_SECONDS").unwrap_or(2));
    let first = number("PATINA_FUZZ_SEED").unwrap_or(0);
    let corpus = CORPUS.lines().filter_map(|line| line.split_once(' '));
    let known = corpus.filter(|(name, _)| *name == target).filter_map(|(_, seed)| seed.parse().ok());
    let (start, mut count) = (Instant::now(), 0_u64);
    for seed in known.chain(first..) {
        if count > 20 && start.elapsed() > seconds {
            break;
        }
        let run = catch_unwind(AssertUnwindSafe(|| case(&mut SplitMix64::new(seed, &[]))));
        assert!(run.is_ok(), "add to fuzz_corpus.txt: {target} {seed}");
        count += 1;
    }
    println!("{target}: {count} cases");
}

fn pick<T: Copy>(random: &mut SplitMix64, of: &[T]) -> T {
    of[random.below(of.len())]
}

/// A number of any size, sometimes none.
fn number(random: &mut SplitMix64) -> f64 {
    match random.below(8) {
        0 => pick(random, &[0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX]),
        1 => 10f64.powf(600.0 * random.uniform() - 300.0) * pick(random, &[-1.0, 1.0]),
        _ => random.normal(),
    }
}

/// Points of all kinds: scattered, on a lattice, on a line, the same, far away, tiny.
fn coords(random: &mut SplitMix64, n: usize) -> Mat<f64> {
    let dim = 1 + random.below(3);
    let (scale, shift) =
        (pick(random, &[1.0, 1.0, 1e-6, 1e6, 1e150, 1e-150]), pick(random, &[0.0, 0.0, 1e5]));
    let kind = random.below(5);
    Mat::from_fn(n, dim, |i, k| {
        let place = match kind {
            0 | 1 => 5.0 * random.uniform(),
            2 => ((i + 3 * k) % 4) as f64,
            3 => {
                if k == 0 {
                    i as f64
                } else {
                    1.0
                }
            }
            _ => {
                if i < 2 {
                    i as f64
                } else {
                    0.5
                }
            }
        };
        scale * (place + shift)
    })
}

fn kernel(random: &mut SplitMix64, extent: f64) -> Option<Kernel> {
    let scale = if random.below(10) == 0 {
        number(random)
    } else {
        extent * 10f64.powf(3.0 * random.uniform() - 2.0)
    };
    Kernel::from_name(pick(random, &["SE", "SE", "matern32", "PER", "linear"]), scale).ok()
}

fn check(fit: &GeneFit) {
    if let Some(p) = fit.calibrated.filter(|p| !p.pval.is_nan()) {
        assert!(p.pval > 0.0 && p.pval <= 1.0 && p.log10_pval <= 0.0 && p.log10_pval.is_finite(), "{p:?}");
    }
    if fit.status != Status::Ok {
        return;
    }
    assert!(fit.loglik_null.is_finite() && !fit.best.is_empty(), "{fit:?}");
    for best in &fit.best {
        let all = [
            best.log_delta,
            best.loglik,
            best.llr,
            best.bic,
            best.fsv,
            best.mean,
            best.var_spatial,
            best.var_noise,
        ];
        assert!(all.iter().all(|value| value.is_finite()), "{best:?}");
        assert!((0.0..=1.0).contains(&best.fsv) && best.llr >= 0.0 && best.var_spatial >= 0.0, "{best:?}");
        assert!(best.fsv_se.is_none_or(|se| se >= 0.0 && se.is_finite()), "{best:?}");
    }
}

/// Locations, samples, kernels, approximations and genes of all kinds: no panic, and numbers that are numbers.
fn test_case(random: &mut SplitMix64) {
    let n = 5 + random.below(30);
    let coords = coords(random, n);
    let first = random.below(n);
    let sizes = if first > 0 && random.below(3) == 0 { vec![first, n - first] } else { vec![n] };
    let Ok(locations) = Locations::with_samples(coords.as_ref(), &sizes) else { return };
    let extent = locations.distance_range().1;
    let kernels: Vec<Kernel> = (0..1 + random.below(3)).filter_map(|_| kernel(random, extent)).collect();
    let approximation = pick(
        random,
        &[Approximation::Auto, Approximation::Exact, Approximation::PivotedCholesky, Approximation::Krylov],
    );
    let groups = vec![0; kernels.len()];
    let Ok(test) = SpatialTest::with_groups(&kernels, &groups, locations, Request::test(approximation))
    else {
        return;
    };
    let test = if random.below(3) > 0 { test.clone().calibrate().unwrap_or(test) } else { test };
    let kind: Vec<usize> = (0..6).map(|_| random.below(4)).collect();
    let y = Mat::from_fn(n, 6, |i, g| match kind[g] {
        0 => number(random),
        1 => coords[(i, 0)] + 0.1 * random.normal(),
        2 => {
            if i == 3 {
                1e8
            } else {
                0.0
            }
        }
        _ => 10f64.powi(random.below(3) as i32) * random.normal(),
    });
    test.fit(y.as_ref()).unwrap().iter().for_each(check);
}

/// The exact engine against a dense normal density.
fn density_case(random: &mut SplitMix64) {
    let n = 5 + random.below(8);
    let coords = Mat::from_fn(n, 2, |_, _| 4.0 * random.uniform());
    let locations = Locations::new(coords.as_ref()).unwrap();
    let kernel = Kernel::squared_exponential(10f64.powf(2.5 * random.uniform() - 1.5)).unwrap();
    let y = Mat::from_fn(n, 3, |i, g| {
        (coords[(i, 0)] * (1 + g) as f64).sin() + random.uniform() * random.normal()
    });
    let request = Request::test(Approximation::Exact);
    let test = SpatialTest::with_groups(&[kernel], &[0], locations.clone(), request).unwrap();
    for (g, fit) in test.fit(y.as_ref()).unwrap().iter().enumerate() {
        let best = &fit.best[0];
        let mut v = kernel.at(&locations).block(0..n);
        (0..n).for_each(|i| v[(i, i)] += best.log_delta.exp());
        let Ok(eigen) = v.self_adjoint_eigen(Side::Lower) else { continue };
        let rotate = |x: &dyn Fn(usize) -> f64| eigen.U().transpose() * Mat::from_fn(n, 1, |i, _| x(i));
        let (one, own) = (rotate(&|_| 1.0), rotate(&|i| y[(i, g)]));
        let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let sum = |a: &Mat<f64>, b: &Mat<f64>| (0..n).map(|i| a[(i, 0)] * b[(i, 0)] / values[i]).sum::<f64>();
        let mean = sum(&one, &own) / sum(&one, &one);
        let rest = Mat::from_fn(n, 1, |i, _| own[(i, 0)] - mean * one[(i, 0)]);
        let size = n as f64;
        let log_det = values.iter().map(|v| v.ln()).sum::<f64>();
        let expected = -0.5
            * (size * (2.0 * std::f64::consts::PI).ln()
                + size * (sum(&rest, &rest) / size).ln()
                + log_det
                + size);
        assert!((best.loglik - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{} {expected}", best.loglik);
    }
}

/// Engines agree with the exact one within their promise, or have a status: any lengthscale, layout and gene.
fn engine_case(random: &mut SplitMix64) {
    let n = 31 + random.below(50);
    let kind = random.below(4);
    let dim = 1 + random.below(3);
    let coords = Mat::from_fn(n, dim, |i, k| match kind {
        0 => ((i / 7_usize.pow(k as u32)) % 7) as f64,
        1 if (20..30).contains(&i) && k == 0 => 0.25,
        _ => 7.0 * random.uniform(),
    });
    let sizes = if random.below(3) == 0 { vec![15, n - 15] } else { vec![n] };
    let locations = Locations::with_samples(coords.as_ref(), &sizes).unwrap();
    let scale = locations.distance_range().1 * 10f64.powf(3.0 * random.uniform() - 2.0);
    let kernel = Kernel::from_name(pick(random, &["SE", "SE", "matern32"]), scale).unwrap();
    let (a, b) = (2.0 * random.uniform(), 2.0 * random.uniform());
    let noise: Vec<f64> = (0..4).map(|_| 10f64.powf(4.5 * random.uniform() - 4.0)).collect();
    let y = Mat::from_fn(n, 4, |i, g| {
        let (u, v) = (coords[(i, 0)], coords[(i, dim - 1)]);
        [(a * u).sin(), (a * u).sin() * (b * v).cos(), (u - 3.0).powi(2), 0.0][g] + noise[g] * random.normal()
    });
    let fit = |approximation, fit| {
        let request = Request { fit, ..Request::test(approximation) };
        let test = SpatialTest::with_groups(&[kernel], &[0], locations.clone(), request).unwrap();
        if fit == Fit::Likelihood { test.fit(y.as_ref()) } else { test.calibrate()?.fit(y.as_ref()) }
    };
    let exact = fit(Approximation::Exact, Fit::Likelihood).unwrap();
    for approximation in [Approximation::PivotedCholesky, Approximation::Krylov] {
        for (own, exact) in fit(approximation, Fit::Likelihood).unwrap().iter().zip(&exact) {
            check(own);
            if own.status == Status::Ok {
                let (own, exact) = (own.best[0].llr, exact.best[0].llr);
                assert!(
                    (own - exact).abs() < 0.03 + 1e-4 * exact,
                    "{approximation:?} {kernel:?}: {own} {exact}"
                );
            }
        }
    }
    if random.below(4) > 0 {
        return;
    }
    // Samples may be too small, or the kernel the same everywhere.
    let (Ok(grid), Ok(exact)) =
        (fit(Approximation::Grid, Fit::Moments), fit(Approximation::Exact, Fit::Moments))
    else {
        return;
    };
    for (own, exact) in grid.iter().zip(&exact) {
        let (own, exact) = (own.best[0].fsv, exact.best[0].fsv);
        assert!((own - exact).abs() < 1e-3, "{kernel:?}: {own} {exact}");
    }
}

fn qvalue_case(random: &mut SplitMix64) {
    let p: Vec<f64> = (0..random.below(300))
        .map(|_| {
            if random.below(20) == 0 {
                number(random)
            } else {
                random.uniform().powi(1 + random.below(4) as i32)
            }
        })
        .collect();
    let pi0 = if random.below(2) == 0 { None } else { Some(number(random)) };
    let Ok(q) = qvalues(&p, pi0) else { return };
    let pi0 = pi0.unwrap_or_else(|| estimate_pi0(&p));
    for (p, q) in p.iter().zip(&q) {
        assert!(
            p.is_nan() && q.is_nan() || (*q <= 1.0 && *q >= pi0 * p * (1.0 - 1e-12) - 1e-300),
            "{p} {q} {pi0}"
        );
    }
}

fn combine_case(random: &mut SplitMix64) {
    let forms = 1 + random.below(8);
    let log_p: Vec<f64> = (0..forms)
        .map(|_| match random.below(6) {
            0 => f64::NAN,
            1 => f64::NEG_INFINITY,
            2 => 0.0,
            _ => -10f64.powf(12.0 * random.uniform() - 6.0),
        })
        .collect();
    let mut weights: Vec<f64> = (0..forms).map(|_| 10f64.powf(-20.0 * random.uniform())).collect();
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    let combined = combine(&log_p, &weights);
    let any = log_p.iter().any(|p| !p.is_nan());
    assert!(
        if any { combined.is_finite() && combined < 0.1 } else { combined.is_nan() },
        "{log_p:?} {combined}"
    );
}

fn pattern_case(random: &mut SplitMix64) {
    let n = 5 + random.below(20);
    let coords = coords(random, n);
    let Ok(locations) = Locations::new(coords.as_ref()) else { return };
    let Some(kernel) = kernel(random, locations.distance_range().1) else { return };
    let request = Request::eigenpairs(pick(random, &[Approximation::Auto, Approximation::PivotedCholesky]));
    let Ok(spectra) = prepare::spectra(&[kernel], &locations, request) else { return };
    let genes = 1 + random.below(6);
    let wild = random.below(4) == 0;
    let y = Mat::from_fn(n, genes, |_, _| if wild { number(random) } else { random.normal() });
    let settings = Settings { n_patterns: vec![random.below(5)], restarts: 2, ..Settings::default() };
    let Ok(found) = find_patterns(&spectra, y.as_ref(), &settings) else { return };
    // Each gene's expected squared distance is a difference of terms of the size of n, over twice the noise.
    let rounding = 16.0 * f64::EPSILON * (n * genes) as f64 / found.noise;
    assert!(found.elbo.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9 * pair[0].abs() - rounding));
    assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9 && found.noise > 0.0);
}

/// Factors of genes of all kinds: finite, a variance of 1, shares from 0 to 1, and domains of them or of any values.
fn factors_case(random: &mut SplitMix64) {
    let n = 2 + random.below(60);
    let Ok(locations) = Locations::new(coords(random, n).as_ref()) else { return };
    let genes = 1 + random.below(6);
    let strange = random.below(4) == 0;
    let y = Mat::from_fn(n, genes, |i, g| {
        let shared = ((i * (1 + g % 2)) as f64 / 7.0).sin();
        if strange { number(random) } else { shared + 0.5 * random.normal() }
    });
    let settings = factors::Settings {
        n_factors: pick(random, &[None, None, Some(1), Some(2), Some(7)]),
        most: 1 + random.below(6),
        max_iterations: 1 + random.below(10),
        lengthscales: pick(random, &[&[][..], &[1.0], &[1e-3, 1e3], &[-1.0]]).to_vec(),
        genes: pick(random, &[None, None, Some(1), Some(3), Some(7)]),
        fold_genes: (0..random.below(3)).map(|_| (0..random.below(4)).collect()).collect(),
    };
    let first = random.below(n);
    let sizes = if random.below(3) == 0 { vec![first, n - first] } else { vec![n] };
    let Ok(locations) = Locations::with_samples(locations.coords(), &sizes) else { return };
    let means =
        Mat::from_fn(sizes.len(), genes, |_, _| if strange { number(random) } else { random.normal() });
    let means = (random.below(2) == 0).then_some(means.as_ref());
    let Ok(found) = find_factors(&locations, y.as_ref(), means, &settings) else { return };
    let finite = |m: &Mat<f64>| m.col_iter().all(|column| column.iter().all(|x| x.is_finite()));
    assert!(finite(&found.values) && finite(&found.totals) && finite(&found.loadings) && finite(&found.seen));
    assert!(found.noise.iter().all(|v| *v > 0.0 && v.is_finite()), "{:?}", found.noise);
    for summary in &found.summaries {
        assert!((0.0..=1.0).contains(&summary.smooth), "{summary:?}");
        assert!((-1e-9..=1.0 + 1e-6).contains(&summary.variance), "{summary:?}");
    }
    domains_of(random, &locations, &found.totals);
}

/// Domains of values of all kinds.
fn domains_case(random: &mut SplitMix64) {
    let n = 1 + random.below(60);
    let Ok(locations) = Locations::new(coords(random, n).as_ref()) else { return };
    let kind = random.below(4);
    let unit = pick(random, &[1.0, 1e100, 1e-100]);
    let values = Mat::from_fn(n, 1 + random.below(4), |i, _| match kind {
        0 => number(random),
        1 => (i % 3) as f64 * unit,
        2 => unit,
        _ => unit * random.normal(),
    });
    domains_of(random, &locations, &values);
}

fn domains_of(random: &mut SplitMix64, locations: &Locations, values: &Mat<f64>) {
    let most = 1 + random.below(6);
    let numbers: Vec<usize> = if random.below(2) == 0 { vec![most] } else { (1..=most).collect() };
    let own = if random.below(2) == 0 { 0.0 } else { random.normal() };
    let total =
        Mat::from_fn(values.nrows(), values.ncols(), |i, k| (1.0 + own * random.normal()) * values[(i, k)]);
    let Ok(domains) = find_domains(locations, values.as_ref(), total.as_ref(), &numbers) else { return };
    let count = domains.probabilities.ncols();
    assert!(numbers.contains(&count) && domains.beta >= 0.0 && domains.beta.is_finite());
    let mut sizes = vec![0_usize; count];
    for (i, &label) in domains.labels.iter().enumerate() {
        sizes[label] += 1;
        let row = || (0..count).map(|k| domains.probabilities[(i, k)]);
        assert!(row().all(|p| (0.0..=1.0).contains(&p)) && (row().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
    assert!(domains.criterion.iter().all(|c| c.1.is_finite()), "{:?}", domains.criterion);
}

/// A damaged file is an error, never a panic and never another test.
fn storage_case(random: &mut SplitMix64) {
    let coords = Mat::from_fn(8, 2, |_, _| random.uniform());
    let locations = Locations::new(coords.as_ref()).unwrap();
    let test = SpatialTest::new(&[Kernel::squared_exponential(0.5).unwrap()], locations).unwrap();
    let path = std::env::temp_dir().join(format!("patina-fuzz-{}.bin", std::process::id()));
    storage::save(&test, &path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    match random.below(3) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => bytes.extend([0; 3]),
        _ => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(storage::load(&path).is_err());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn tests_of_genes() {
    fuzz("test", test_case);
}

#[test]
fn likelihoods() {
    fuzz("density", density_case);
}

#[test]
fn engines() {
    fuzz("engine", engine_case);
}

#[test]
fn q_values() {
    fuzz("qvalue", qvalue_case);
}

#[test]
fn combinations() {
    fuzz("combine", combine_case);
}

#[test]
fn patterns_of_genes() {
    fuzz("pattern", pattern_case);
}

#[test]
fn factors_of_genes() {
    fuzz("factors", factors_case);
}

#[test]
fn domains_of_values() {
    fuzz("domains", domains_case);
}

#[test]
fn files() {
    fuzz("storage", storage_case);
}
