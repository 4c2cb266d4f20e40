//! The real tissues and reference results that tests compare with.
//!
//! They are not part of the package: `PATINA_DATA` and `PATINA_REFERENCE` name their folders, else a
//! folder `shared` beside the package (or beside one of its parents) is looked for. A test skips itself
//! where they are missing, but fails where the environment variable `CI` is set.
#![allow(dead_code)]

use faer::Mat;
use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A tissue, prepared as SpatialDE's own scripts prepare it.
pub struct Tissue {
    /// Names of the kept genes (at least three counts over all spots).
    pub genes: Vec<String>,
    /// Names of the kept spots.
    pub spots: Vec<String>,
    /// Spots × 2.
    pub coords: Mat<f64>,
    /// Counts, spots × genes.
    pub counts: Mat<f64>,
    /// Total count of each spot over the kept genes.
    pub totals: Vec<f64>,
    /// Stabilised counts with log(total) regressed out, spots × genes; not centred.
    pub residuals: Mat<f64>,
}

impl Tissue {
    /// The tissue of a table of counts, with spots named `XxY` in rows; keeps spots with more than
    /// `least_total` counts.
    pub fn prepare(table: &Table, least_total: f64) -> Self {
        let sums: Vec<f64> = table.columns.iter().map(|column| column.iter().sum()).collect();
        let kept: Vec<usize> = (0..sums.len()).filter(|&g| sums[g] >= 3.0).collect();
        let all_totals: Vec<f64> =
            (0..table.rows.len()).map(|i| kept.iter().map(|&g| table.columns[g][i]).sum()).collect();
        let spots: Vec<usize> = (0..table.rows.len()).filter(|&i| all_totals[i] > least_total).collect();

        let counts = Mat::from_fn(spots.len(), kept.len(), |i, g| table.columns[kept[g]][spots[i]]);
        let totals: Vec<f64> = spots.iter().map(|&i| all_totals[i]).collect();
        let coords: Vec<Vec<f64>> = spots
            .iter()
            .map(|&i| table.rows[i].split('x').map(|v| v.parse().expect("a spot named XxY")).collect())
            .collect();
        Self {
            genes: kept.iter().map(|&g| table.names[g].clone()).collect(),
            spots: spots.iter().map(|&i| table.rows[i].clone()).collect(),
            coords: Mat::from_fn(spots.len(), 2, |i, k| coords[i][k]),
            residuals: anscombe(&counts, &totals),
            counts,
            totals,
        }
    }

    /// Index of the gene of that name.
    pub fn gene(&self, name: &str) -> Option<usize> {
        self.genes.iter().position(|gene| gene == name)
    }
}

/// The mouse olfactory bulb, replicate 11: 260 spots × 14,859 genes.
pub fn bulb() -> Option<Tissue> {
    let table = Table::read(&data("Rep11_MOB_0.csv.gz")?, ',');
    Some(Tissue::prepare(&table, 10.0))
}

/// The breast cancer section, layer 2: 250 spots × 12,856 genes.
pub fn breast_cancer() -> Option<Tissue> {
    let table = Table::read(&data("Layer2_BC_count_matrix-1.tsv.gz")?, '\t');
    Some(Tissue::prepare(&table, 5.0))
}

/// `log(x + 1/(2 phi))`, then the slope on log(total), fitted with an intercept, is taken out.
///
/// phi is the least squares fit of `var = mu + phi mu²` over genes.
pub fn anscombe(counts: &Mat<f64>, totals: &[f64]) -> Mat<f64> {
    let (n, genes) = counts.shape();
    let (mut top, mut bottom) = (0.0, 0.0);
    for g in 0..genes {
        let column = counts.col(g);
        let mean = column.iter().sum::<f64>() / n as f64;
        let var = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1) as f64;
        top += mean * mean * (var - mean);
        bottom += mean.powi(4);
    }
    let shift = 0.5 * bottom / top;
    let depth: Vec<f64> = totals.iter().map(|t| t.ln()).collect();
    let centre = depth.iter().sum::<f64>() / n as f64;
    let spread: f64 = depth.iter().map(|d| (d - centre) * (d - centre)).sum();
    let mut out = Mat::from_fn(n, genes, |i, g| (counts[(i, g)] + shift).ln());
    for g in 0..genes {
        let slope = (0..n).map(|i| out[(i, g)] * (depth[i] - centre)).sum::<f64>() / spread;
        for i in 0..n {
            out[(i, g)] -= slope * depth[i];
        }
    }
    out
}

/// Takes each column's mean away.
pub fn centred(y: &Mat<f64>) -> Mat<f64> {
    let n = y.nrows();
    let means: Vec<f64> = (0..y.ncols()).map(|g| y.col(g).iter().sum::<f64>() / n as f64).collect();
    Mat::from_fn(n, y.ncols(), |i, g| y[(i, g)] - means[g])
}

/// A table of a reference file: text columns are NaN in `columns` and kept in `text`.
pub struct Table {
    /// Names of the columns, without the first if it holds the names of the rows.
    pub names: Vec<String>,
    /// The first column.
    pub rows: Vec<String>,
    /// The columns as numbers.
    pub columns: Vec<Vec<f64>>,
    /// Columns that are not numbers, by name.
    pub text: HashMap<String, Vec<String>>,
}

impl Table {
    /// Reads a plain or gzipped table without quotes whose first line has the names of its columns.
    ///
    /// Where that line starts with a separator, the first column holds the names of the rows.
    pub fn read(path: &Path, separator: char) -> Self {
        let mut text = String::new();
        let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if path.extension().is_some_and(|e| e == "gz") {
            GzDecoder::new(file).read_to_string(&mut text).expect("gzipped text");
        } else {
            file.read_to_string(&mut text).expect("text");
        }
        let mut lines = text.lines();
        let mut names: Vec<String> =
            lines.next().expect("a header").split(separator).map(str::to_string).collect();
        let unnamed_rows = names[0].is_empty();
        if unnamed_rows {
            names.remove(0);
        }
        let mut table =
            Self { columns: vec![Vec::new(); names.len()], names, rows: Vec::new(), text: HashMap::new() };
        for line in lines.filter(|line| !line.is_empty()) {
            let mut cells = line.split(separator).peekable();
            table.rows.push(cells.peek().expect("a first cell").to_string());
            if unnamed_rows {
                cells.next();
            }
            for (column, cell) in cells.enumerate() {
                let value = cell.parse().unwrap_or_else(|_| {
                    table.text.entry(table.names[column].clone()).or_default().push(cell.to_string());
                    f64::NAN
                });
                table.columns[column].push(value);
            }
        }
        table
    }

    /// The numbers of a column.
    pub fn column(&self, name: &str) -> &[f64] {
        let at = self.names.iter().position(|n| n == name).unwrap_or_else(|| panic!("no column {name}"));
        &self.columns[at]
    }

    /// The texts of a column.
    pub fn text(&self, name: &str) -> &[String] {
        self.text.get(name).unwrap_or_else(|| panic!("no text column {name}"))
    }
}

/// A table of reference results (comma separated).
pub fn reference_table(file: &str) -> Option<Table> {
    Some(Table::read(&reference(file)?, ','))
}

/// The path of a data file; `None` where there is none and tests may skip.
pub fn data(file: &str) -> Option<PathBuf> {
    look_up("PATINA_DATA", "data", file)
}

/// The path of a file of reference results; `None` where there is none and tests may skip.
pub fn reference(file: &str) -> Option<PathBuf> {
    look_up("PATINA_REFERENCE", "reference", file)
}

fn look_up(variable: &str, folder: &str, file: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(|dir| PathBuf::from(dir).join(file));
    let beside = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("shared").join(folder).join(file))
        .find(|path| path.exists());
    let found = named.or(beside).filter(|path| path.exists());
    if found.is_none() {
        let message = format!("{file} not found (set {variable} to its folder)");
        assert!(env::var("CI").is_ok_and(|ci| ci.is_empty()) || env::var_os("CI").is_none(), "{message}");
        eprintln!("skipped: {message}");
    }
    found
}
