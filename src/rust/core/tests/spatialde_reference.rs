//! The test, the model search and patterns of a small tissue against SpatialDE 1.1.3. Its numbers are in the repository
//! (`tests/testthat/reference`, made by `spatialde.py` there), so that this compares on any machine.

mod common;

use common::{own_reference, own_tissue, spatialde_kernels};
use faer::Mat;
use patina_core::model_search::compare;
use patina_core::patterns::{Settings, find_patterns};
use patina_core::{Approximation, Kernel, Locations, Request, SpatialTest, prepare};
use std::collections::HashMap;

/// The places of some genes, by name.
fn places(names: &[String], genes: &[String]) -> Vec<usize> {
    let known: HashMap<&String, usize> = genes.iter().zip(0..).collect();
    names.iter().map(|name| known[name]).collect()
}

#[test]
fn likelihoods_are_never_below_spatialdes_and_mostly_equal() {
    let (tissue, reference) = (own_tissue(), own_reference("run"));
    let locations = Locations::new(tissue.coords.as_ref()).unwrap();
    let kernels = spatialde_kernels(&locations);
    let fits = SpatialTest::new(&kernels, locations).unwrap().fit(tissue.residuals.as_ref()).unwrap();
    let (loglik, null) = (reference.column("max_ll"), reference.column("max_ll_null"));
    let (delta, lengthscale) = (reference.column("max_delta"), reference.column("l"));
    // SpatialDE's variance of the constant model has n - 1 in the denominator.
    let n = tissue.totals.len() as f64;
    let null_excess = 0.5 * (n * (n / (n - 1.0)).ln() - 1.0);
    let mut equal = 0;
    for (row, g) in places(&reference.rows, &tissue.genes).into_iter().enumerate() {
        let fit = &fits[g].best[0];
        assert!((null[row] + null_excess - fits[g].loglik_null).abs() < 1e-6, "{}", reference.rows[row]);
        let surplus = fit.loglik - loglik[row];
        assert!(surplus > -1e-6, "{} is below SpatialDE by {:e}", reference.rows[row], -surplus);
        if surplus < 1e-6 {
            equal += 1;
            assert!((kernels[fit.kernel].scale() / lengthscale[row] - 1.0).abs() < 1e-6);
            assert!((fit.log_delta - delta[row].ln()).abs() < 0.02, "{}", reference.rows[row]);
        }
    }
    // Where they differ its optimiser has stopped short of the maximum.
    let share = f64::from(equal) / fits.len() as f64;
    assert!(share > 0.4, "{share}");
}

#[test]
fn models_are_those_of_spatialde() {
    let (tissue, reference) = (own_tissue(), own_reference("model_search"));
    let locations = Locations::new(tissue.coords.as_ref()).unwrap();
    let mut kernels = spatialde_kernels(&locations);
    let cosine = |kernel: &Kernel| Kernel::cosine(kernel.scale()).unwrap();
    kernels.extend(kernels.iter().map(cosine).collect::<Vec<_>>());
    kernels.push(Kernel::linear());
    let groups: Vec<usize> = (0..21).map(|k| k / 10).collect();
    let request = Request::test(Approximation::Auto);
    let test = SpatialTest::with_groups(&kernels, &groups, locations, request).unwrap();
    let genes = places(&reference.rows, &tissue.genes);
    let y = Mat::from_fn(tissue.totals.len(), genes.len(), |i, g| tissue.residuals[(i, genes[g])]);
    let models = reference.text("model");
    for (g, fit) in test.fit(y.as_ref()).unwrap().iter().enumerate() {
        let best = compare(fit).unwrap().best;
        // The criterion is never worse than SpatialDE's.
        assert!(best.bic < reference.column("BIC")[g] + 1e-5, "{}", reference.rows[g]);
        assert_eq!(kernels[best.kernel].name(), models[g], "{}", reference.rows[g]);
    }
}

#[test]
fn patterns_are_those_of_spatialde() {
    let (tissue, reference) = (own_tissue(), own_reference("patterns"));
    let genes = places(&reference.rows, &tissue.genes);
    let y = Mat::from_fn(tissue.totals.len(), genes.len(), |i, g| tissue.residuals[(i, genes[g])]);
    let locations = Locations::new(tissue.coords.as_ref()).unwrap();
    let kernel = Kernel::squared_exponential(1.5).unwrap();
    let spectra = prepare::spectra(&[kernel], &locations, Request::eigenpairs(Approximation::Auto)).unwrap();
    let settings = Settings { n_patterns: vec![2], ..Settings::default() };
    let found = find_patterns(&spectra, y.as_ref(), &settings).unwrap();
    // The same partition, whatever its numbers.
    let mut pairs: Vec<(usize, i64)> =
        found.assignment.iter().zip(reference.column("pattern")).map(|(&a, &b)| (a, b as i64)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), 2, "{pairs:?}");
}
