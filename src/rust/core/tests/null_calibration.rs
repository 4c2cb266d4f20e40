//! p-values are uniform when the spots are permuted: a small, seeded version of the calibration table.

mod common;

use common::{Random, Tester, benjamini_hochberg, tail_ratios};
use faer::Mat;
use patina_core::Locations;

/// P(p <= a)/a over permutations of a tissue's spots, for .05, .01 and .001 in each stratum.
fn assert_calibrated(tissue: &common::Tissue, seed: u64) {
    const RUNS: usize = 6;
    let locations = Locations::new(tissue.coords.as_ref()).unwrap();
    let tester = Tester::default_grid(&locations);
    let y = common::centred(&tissue.residuals);
    let mut random = Random::new(seed);
    // Each gene has its own permutation: the same distribution as with one for all, and less noise.
    let runs: Vec<Vec<f64>> = (0..RUNS)
        .map(|_| {
            let mut permuted = Mat::zeros(y.nrows(), y.ncols());
            for g in 0..y.ncols() {
                let order = random.permutation(y.nrows());
                (0..y.nrows()).for_each(|i| permuted[(i, g)] = y[(order[i], g)]);
            }
            tester.log10_p_values(&permuted)
        })
        .collect();
    let strata = tissue.strata();
    for stratum in 0..common::STRATA.len() {
        let count = RUNS as f64 * strata.iter().filter(|s| **s == stratum).count() as f64;
        for (a, bounds) in [(0.05, [0.8, 1.2]), (0.01, [0.8, 1.2]), (0.001, [0.67, 1.5])] {
            let ratio = tail_ratios(&runs, &strata, Some(stratum), a);
            // Three standard errors of so few runs on top of what is asked for.
            let slack = 3.0 / (count * a).sqrt();
            println!("stratum {stratum}, {a}: {ratio:.3} ± {:.3}", slack / 3.0);
            assert!(
                ratio > bounds[0] - slack && ratio < bounds[1] + slack,
                "stratum {stratum}, {a}: {ratio}"
            );
        }
    }
    let overall = tail_ratios(&runs, &strata, None, 0.01);
    assert!((0.9..1.2).contains(&overall), "{overall}");
}

#[test]
fn bulb_is_calibrated() {
    if let Some(tissue) = common::bulb() {
        assert_calibrated(&tissue, 11);
    }
}

#[test]
fn breast_cancer_is_calibrated() {
    if let Some(tissue) = common::breast_cancer() {
        assert_calibrated(&tissue, 12);
    }
}

#[test]
fn sparse_genes_are_calibrated_on_scattered_points() {
    // Some points are very close: forms of a short lengthscale see a few pairs only.
    let mut random = Random::new(3);
    let n = 300;
    let coords = Mat::from_fn(n, 2, |_, _| random.uniform());
    let locations = Locations::new(coords.as_ref()).unwrap();
    let tester = Tester::default_grid(&locations);
    let genes = 20_000;
    let mut y = Mat::zeros(n, genes);
    for g in 0..genes {
        let order = random.permutation(n);
        order[..3 + g % 40].iter().for_each(|&i| y[(i, g)] = 1.0 + random.uniform());
    }
    let runs = [tester.log10_p_values(&common::centred(&y))];
    for (a, most) in [(0.05, 1.25), (0.01, 1.3), (0.001, 1.8), (0.0001, 3.5)] {
        let ratio = tail_ratios(&runs, &[0; 20_000], None, a);
        println!("{a}: {ratio}");
        assert!(ratio < most, "{a}: {ratio}");
    }
}

#[test]
fn genes_found_on_real_tissues() {
    for (tissue, least) in [(common::bulb(), 270), (common::breast_cancer(), 530)] {
        let Some(tissue) = tissue else { return };
        let locations = Locations::new(tissue.coords.as_ref()).unwrap();
        let p = Tester::default_grid(&locations).log10_p_values(&common::centred(&tissue.residuals));
        let hits = benjamini_hochberg(&p, 0.05);
        assert!(hits >= least, "{hits}");
        assert!(p.iter().all(|p| p.is_finite()));
        if let Some(run) = common::reference_table("mob_run.csv.gz").filter(|_| least == 270) {
            let mut sorted = p.clone();
            sorted.sort_by(f64::total_cmp);
            let found = |name: &String| tissue.gene(name).is_some_and(|g| p[g] <= sorted[hits - 1]);
            let pairs = run.text("g").iter().zip(run.column("qval"));
            let kept = pairs.filter(|(name, q)| **q < 0.05 && found(name)).count();
            // SpatialDE has 67 genes (and its pseudo-gene) there.
            assert!(kept >= 60, "{kept}");
        }
    }
}
