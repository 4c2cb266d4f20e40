//! The model search on the bulb's hits against SpatialDE 1.1.3 (mob_model_search.csv.gz).

mod common;

use common::{bulb, reference_table};
use faer::Mat;
use patina_core::model_search::compare;
use patina_core::{Approximation, Kernel, Locations, Request, SpatialTest, scales};

#[test]
fn hits_follow_spatialdes_models() {
    let (Some(bulb), Some(reference)) = (bulb(), reference_table("mob_model_search.csv.gz")) else { return };
    let names = reference.text("g");
    let genes: Vec<Option<usize>> = names.iter().map(|name| bulb.gene(name)).collect();
    let y = Mat::from_fn(bulb.totals.len(), names.len(), |i, g| match genes[g] {
        Some(gene) => bulb.residuals[(i, gene)],
        None => bulb.totals[i].ln(),
    });
    let locations = Locations::new(bulb.coords.as_ref()).unwrap();
    let grid = scales::spatialde(&locations, 10);
    let mut kernels: Vec<Kernel> =
        grid.iter().map(|&lengthscale| Kernel::squared_exponential(lengthscale).unwrap()).collect();
    kernels.extend(grid.iter().map(|&period| Kernel::cosine(period).unwrap()));
    kernels.push(Kernel::linear());
    let groups: Vec<usize> = (0..21).map(|k| k / 10).collect();
    let request = Request::test(Approximation::Auto);
    let test = SpatialTest::with_groups(&kernels, &groups, locations, request).unwrap();

    let models = reference.text("model");
    let (se, scale) = (reference.column("SE_prob"), reference.column("l"));
    for (g, fit) in test.fit(y.as_ref()).unwrap().iter().enumerate() {
        let comparison = compare(fit).unwrap();
        let kernel = kernels[comparison.best.kernel];
        assert_eq!(kernel.name(), models[g], "{}", names[g]);
        assert!((kernel.scale() / scale[g] - 1.0).abs() < 1e-6, "{}", names[g]);
        // SpatialDE normalises exp(-bic), the square of our weights.
        let squares: Vec<f64> = comparison.probabilities.iter().map(|p| p * p).collect();
        assert!((squares[0] / squares.iter().sum::<f64>() - se[g]).abs() < 1e-3, "{}", names[g]);
    }
}
