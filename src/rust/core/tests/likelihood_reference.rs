//! The test on the olfactory bulb against SpatialDE 1.1.3 (mob_run.csv.gz).

mod common;

use common::{bulb, reference_table};
use faer::Mat;
use patina_core::{Kernel, Locations, SpatialTest, scales};

#[test]
fn bulb_is_never_below_spatialde_and_agrees_where_spatialde_is_right() {
    let (Some(bulb), Some(reference)) = (bulb(), reference_table("mob_run.csv.gz")) else { return };
    let (n, genes) = bulb.residuals.shape();
    let y = Mat::from_fn(
        n,
        genes + 1,
        |i, g| {
            if g < genes { bulb.residuals[(i, g)] } else { bulb.totals[i].ln() }
        },
    );
    let locations = Locations::new(bulb.coords.as_ref()).unwrap();
    let kernels: Vec<Kernel> = scales::spatialde(&locations, 10)
        .into_iter()
        .map(|lengthscale| Kernel::squared_exponential(lengthscale).unwrap())
        .collect();
    let test = SpatialTest::new(&kernels, locations).unwrap();
    let fits = test.fit(y.as_ref()).unwrap();

    let names = reference.text("g");
    assert_eq!(names.len(), genes + 1);
    let [loglik, null, lengthscale, delta] =
        ["max_ll", "max_ll_null", "l", "max_delta"].map(|name| reference.column(name));
    // SpatialDE's variance of the constant model has n - 1 in the denominator.
    let n = n as f64;
    let null_excess = 0.5 * (n * (n / (n - 1.0)).ln() - 1.0);
    let (mut same, mut agree, mut above) = (0, 0, 0);
    for (row, name) in names.iter().enumerate() {
        let gene = if name == "log_total_count" { genes } else { bulb.gene(name).unwrap() };
        let (fit, fitted_null) = (&fits[gene].best[0], fits[gene].loglik_null);
        // The reference's phi was fitted iteratively, which shifts all its likelihoods by the same 1e-6.
        let shift = null[row] + null_excess - fitted_null;
        assert!(shift.abs() < 2e-6, "{name}: {shift:e}");
        let surplus = fit.loglik + shift - loglik[row];
        assert!(surplus >= -1e-7 * loglik[row].abs().min(1.0), "{name} is below SpatialDE by {:e}", -surplus);
        above += usize::from(surplus > 0.01);
        if surplus < 1e-4 {
            same += 1;
            let l_off = (kernels[fit.kernel].scale() / lengthscale[row] - 1.0).abs();
            let delta_off = (fit.log_delta - delta[row].ln()).abs();
            // SpatialDE's optimiser often stops short of the maximum: a different delta must be a better one.
            if l_off <= 1e-3 && delta_off <= 1e-3 {
                agree += 1;
            } else {
                assert!(surplus > 1e-10, "{name}: l {l_off:e}, log delta {delta_off:e}, surplus {surplus:e}");
            }
        }
    }
    // Seven genes in ten have the same likelihood within 1e-4, of these eight in ten the same delta (the others always
    // with a higher likelihood); one gene in nine is higher by more than 0.01.
    let share = |part: usize, of: usize| part as f64 / of as f64;
    let shares = [share(same, names.len()), share(agree, same), share(above, names.len())];
    for (share, expected) in shares.into_iter().zip([0.704, 0.805, 0.1106]) {
        assert!((share - expected).abs() < 0.005, "{shares:?}");
    }
}
