//! Are p-values uniform when locations are permuted? Prints P(p <= a) / a by the genes' total counts.
//!
//!     cargo run --release -p patina-studies --example calibration -- TABLE [permutations] [seed]
//!
//! TABLE is `bulb`, `breast_cancer`, or a plain or gzipped table of counts with spots (named `XxY`) in rows and genes
//! in columns. Each run permutes the spots of all genes alike. The table goes to standard output
//! (bench/results/calibration.csv has 100 permutations of both tissues); times, and the number of genes at 5 % FDR
//! (Benjamini-Hochberg) in the permuted runs and in the data as they are, to standard error.

#[path = "../../core/tests/common/mod.rs"]
mod common;

use common::{LEVELS, Random, Tester, Tissue, benjamini_hochberg, tail_table};
use patina_core::Locations;
use std::path::Path;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("bulb", String::as_str);
    let number = |k: usize, default: u64| {
        arguments.get(k).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let runs = number(1, 40);
    let mut random = Random::new(number(2, 1));

    let tissue = match name {
        "bulb" => common::bulb().expect("the bulb's counts"),
        "breast_cancer" => common::breast_cancer().expect("the section's counts"),
        path => {
            let separator = if path.contains(".tsv") { '\t' } else { ',' };
            Tissue::prepare(&common::Table::read(Path::new(path), separator), 10.0)
        }
    };
    let (n, genes) = tissue.residuals.shape();
    eprintln!("{name}: {n} spots, {genes} genes, {runs} permutations");
    let locations = Locations::new(tissue.coords.as_ref()).expect("locations");
    let start = Instant::now();
    let tester = Tester::default_grid(&locations);
    eprintln!("spectra and forms: {:.3} s", start.elapsed().as_secs_f64());
    let y = common::centred(&tissue.residuals);
    let start = Instant::now();
    let observed = tester.log10_p_values(&y);
    eprintln!("all genes: {:.3} s", start.elapsed().as_secs_f64());

    let label = Path::new(name).file_name().map_or(name, |file| file.to_str().unwrap_or(name));
    let strata = tissue.strata();
    let mut permuted: Vec<Vec<f64>> = Vec::new();
    let mut with_hits = 0;
    for _ in 0..runs {
        let p = tester.log10_p_values(&random.permuted_rows(&y));
        with_hits += u64::from(benjamini_hochberg(&p, 0.05) > 0);
        permuted.push(p);
    }
    println!("data,total,{}", LEVELS.map(|a| format!("ratio_{a}")).join(","));
    println!("{}", tail_table(label, &permuted, &strata));
    eprintln!("runs with a gene at 5 % FDR: {with_hits} of {runs}");
    eprintln!("genes at 5 % FDR as observed: {}", benjamini_hochberg(&observed, 0.05));
}
