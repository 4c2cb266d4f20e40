//! The prepared tissues have the shapes and the values that SpatialDE's reference run saw.

mod common;

#[test]
fn bulb_is_prepared_as_the_reference_run() {
    let (Some(bulb), Some(run)) = (common::bulb(), common::reference_table("mob_run.csv.gz")) else { return };
    assert_eq!(bulb.residuals.shape(), (260, 14_859));
    assert_eq!(bulb.coords.shape(), (260, 2));
    let genes = run.text("g");
    assert_eq!(genes.len(), 14_860);
    // Log likelihood of a normal sample, with SpatialDE's n - 1 in the variance.
    let reference = run.column("max_ll_null");
    for row in (0..genes.len()).step_by(97) {
        let Some(g) = bulb.gene(&genes[row]) else { continue };
        let y = bulb.residuals.col(g);
        let n = y.nrows() as f64;
        let mean = y.iter().sum::<f64>() / n;
        let squares: f64 = y.iter().map(|v| (v - mean) * (v - mean)).sum();
        let variance = squares / (n - 1.0);
        let ll = -0.5 * (n * (2.0 * std::f64::consts::PI * variance).ln() + n - 1.0);
        // SpatialDE fits phi iteratively, to a relative 1e-8 or so.
        assert!((ll - reference[row]).abs() < 1e-5, "{}: {ll} {}", genes[row], reference[row]);
    }
}

#[test]
fn breast_cancer_is_prepared() {
    let Some(tissue) = common::breast_cancer() else { return };
    assert_eq!(tissue.residuals.shape(), (250, 12_856));
    assert_eq!(tissue.coords.shape(), (250, 2));
    assert!(tissue.residuals.col_iter().all(|y| y.iter().all(|v| v.is_finite())));
}
