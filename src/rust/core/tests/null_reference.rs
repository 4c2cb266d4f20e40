//! p-values of single forms on the bulb, against a prototype's.

mod common;

use faer::Mat;
use patina_core::{Kernel, Locations, NullForms, Spectrum};

/// The default grid's spectra.
fn spectra(locations: &Locations) -> Vec<Spectrum> {
    let kernels: Vec<Kernel> = locations
        .default_grid(10)
        .into_iter()
        .map(|lengthscale| Kernel::SquaredExponential { lengthscale })
        .collect();
    Spectrum::dense_all(&kernels, locations).unwrap()
}

#[test]
fn pearson3_of_the_bulb_agrees_with_the_prototype() {
    let Some(bulb) = common::bulb() else { return };
    let Some(table) = common::reference_table("mob_calibrated.csv.gz") else { return };
    let locations = Locations::new(bulb.coords.as_ref()).unwrap();
    let spectra = spectra(&locations);
    let forms = NullForms::with_deltas(&spectra[..6], &locations, &[f64::INFINITY, 3.0]).unwrap();
    let y = common::centred(&bulb.residuals);
    let z: Vec<Mat<f64>> = spectra[..6]
        .iter()
        .map(|spectrum| {
            let mut z = Mat::zeros(spectrum.rank(), y.ncols());
            spectrum.project(y.as_ref(), z.as_mut());
            z
        })
        .collect();
    let (mut compared, mut errors) = (0, [0.0_f64; 12]);
    for (row, name) in table.text("g").iter().enumerate() {
        let g = bulb.gene(name).unwrap();
        let mut q = vec![0.0; 12];
        for k in 0..6 {
            forms.quadratic_forms(k, z[k].col_as_slice(g), &mut q[2 * k..2 * k + 2]);
        }
        let log_p = forms.pearson3(&q, &forms.gene(y.col_as_slice(g)));
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
