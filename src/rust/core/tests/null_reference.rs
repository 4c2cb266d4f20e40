//! p-values of single forms on the bulb, against a prototype's.

mod common;

use common::{Tester, spatialde_kernels};
use patina_core::Locations;
use patina_core::null::DELTAS;

#[test]
fn pearson3_of_the_bulb_agrees_with_the_prototype() {
    let Some(bulb) = common::bulb() else { return };
    let Some(table) = common::reference_table("mob_calibrated.csv.gz") else { return };
    let locations = Locations::new(bulb.coords.as_ref()).unwrap();
    let tester = Tester::new(&spatialde_kernels(&locations)[..6], &locations, &DELTAS);
    let y = common::centred(&bulb.residuals);
    let log_p = tester.map_genes(&y, |_, q, gene| tester.forms.pearson3(q, gene));
    let (mut compared, mut errors) = (0, [0.0_f64; 12]);
    for (row, name) in table.text("g").iter().enumerate() {
        let g = bulb.gene(name).unwrap();
        let log_p = &log_p[g];
        if name == "Gna14" {
            // The prototype's worst case, computed with 45 digits from the general formula.
            let exact: f64 = 0.003_922_478_262_671_4;
            assert!((log_p[0] - exact.ln()).abs() < 1e-8 * exact.ln().abs());
        }
        for k in 0..6 {
            for (form, kind) in ["inf", "3"].iter().enumerate() {
                let expected = table.column(&format!("p_{kind}_{}", k + 1))[row];
                let got = log_p[2 * k + form];
                // The table has eight digits of p.
                let rounding = 0.5e-8 / expected.min(1.0) * if expected < 0.1 { 0.1 } else { 1.0 };
                let error =
                    ((got - expected.ln()).abs() - 2.0 * rounding).max(0.0) / expected.ln().abs().max(1e-300);
                if expected < 1.0 {
                    let column = &mut errors[2 * k + form];
                    *column = column.max(error);
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12 * table.text("g").len());
    // The prototype took central moments from raw ones, which costs it digits at the shortest lengthscale.
    for (form, error) in errors.iter().enumerate() {
        let limit = if form < 2 { 3e-5 } else { 1e-6 };
        assert!(*error < limit, "form {form}: {error:e}");
    }
}
