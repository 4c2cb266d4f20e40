//! Which locations are neighbours, and how alike they are.

use crate::error::{Result, check_size};
use crate::factors::anchors::{point, squared};
use crate::kd_tree::{KdTree, Point};
use crate::locations::Locations;
use faer::MatRef;
use rayon::prelude::*;
use std::collections::HashMap;

/// Nearest locations among which a location's neighbours are.
const CANDIDATES: usize = 20;
/// Edges longer than so many times the median, of their sample and of those at either end, are cut: they bridge gaps.
const LONGEST: f64 = 3.0;
/// Lattices have corners on the circle, but for rounding and little jitter.
const SLACK: f64 = 0.02;

/// Neighbours of each location, in increasing order.
pub(crate) struct Graph {
    starts: Vec<usize>,
    ends: Vec<u32>,
}

impl Graph {
    /// The Gabriel graph of each sample (Gabriel & Sokal 1969, doi:10.2307/2412323): two locations are neighbours if no
    /// third lies in the ball between them. Six neighbours on a hexagonal lattice, four on a square one.
    pub fn new(locations: &Locations) -> Self {
        let n = locations.len();
        let mut edges: Vec<(f64, u32, u32)> = Vec::new();
        for rows in locations.samples() {
            let tree = KdTree::new(locations.coords(), rows.clone());
            let found: Vec<Vec<(f64, u32, u32)>> = rows
                .clone()
                .into_par_iter()
                .with_min_len(64)
                .map(|row| {
                    let mut near = Vec::new();
                    let own = point(locations, row);
                    tree.k_nearest(&own, CANDIDATES + 1, &mut near);
                    let places: Vec<Point> = near.iter().map(|&(_, other)| point(locations, other)).collect();
                    let mut edges = Vec::new();
                    for (i, &(d2, other)) in near.iter().enumerate() {
                        if other == row {
                            continue;
                        }
                        let between =
                            near.iter().zip(&places).enumerate().any(|(j, (&(_, third), place))| {
                                j != i
                                    && third != row
                                    && squared(place, &own) + squared(place, &places[i]) <= d2 * (1.0 + SLACK)
                                    && squared(place, &own) > 0.0
                                    && squared(place, &places[i]) > 0.0
                            });
                        if !between {
                            edges.push((d2, row as u32, other as u32));
                        }
                    }
                    edges
                })
                .collect();
            let mut own: Vec<(f64, u32, u32)> = found.into_iter().flatten().collect();
            cut_bridges(&mut own);
            edges.append(&mut own);
        }
        let mut lists = vec![Vec::new(); n];
        for (_, a, b) in edges {
            lists[a as usize].push(b);
            lists[b as usize].push(a);
        }
        let mut graph = Self { starts: Vec::with_capacity(n + 1), ends: Vec::new() };
        graph.starts.push(0);
        for list in &mut lists {
            list.sort_unstable();
            list.dedup();
            graph.ends.append(list);
            graph.starts.push(graph.ends.len());
        }
        graph
    }

    pub fn neighbours(&self, row: usize) -> &[u32] {
        &self.ends[self.starts[row]..self.starts[row + 1]]
    }
}

/// Cuts edges that bridge gaps: squared lengths, and both ends.
fn cut_bridges(edges: &mut Vec<(f64, u32, u32)>) {
    let Some(whole) = median(&mut edges.iter().map(|e| e.0).collect::<Vec<_>>()) else { return };
    let most = LONGEST * LONGEST;
    let long = |length: f64| whole > 0.0 && length > most * whole;
    // Where cells are sparse all edges are long, and bridge nothing.
    let mut around: HashMap<u32, Vec<f64>> = HashMap::new();
    for &(_, a, b) in edges.iter().filter(|e| long(e.0)) {
        around.entry(a).or_default();
        around.entry(b).or_default();
    }
    for &(length, a, b) in edges.iter() {
        for end in [a, b] {
            if let Some(lengths) = around.get_mut(&end) {
                lengths.push(length);
            }
        }
    }
    let typical: HashMap<u32, f64> =
        around.into_iter().filter_map(|(end, mut lengths)| Some((end, median(&mut lengths)?))).collect();
    edges.retain(|(length, a, b)| !long(*length) || *length <= most * typical[a].min(typical[b]));
}

fn median(x: &mut [f64]) -> Option<f64> {
    let middle = x.len() / 2;
    (!x.is_empty()).then(|| *x.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Moran's I of each column of y (locations × genes) over neighbours; NaN for a constant column.
///
/// # Errors
/// Sizes that disagree.
pub fn morans_i(locations: &Locations, y: MatRef<'_, f64>) -> Result<Vec<f64>> {
    let n = locations.len();
    check_size("rows of y", n, y.nrows())?;
    let graph = Graph::new(locations);
    let edges = graph.ends.len().max(1) as f64;
    let one = |g: usize| {
        let mean = y.col(g).iter().sum::<f64>() / n as f64;
        let x: Vec<f64> = y.col(g).iter().map(|x| x - mean).collect();
        let (mut cross, mut square) = (0.0, 0.0);
        for (i, x_i) in x.iter().enumerate() {
            square += x_i * x_i;
            cross += x_i * graph.neighbours(i).iter().map(|&j| x[j as usize]).sum::<f64>();
        }
        if square > 0.0 { cross / edges / (square / n as f64) } else { f64::NAN }
    };
    Ok((0..y.ncols()).into_par_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    #[test]
    fn lattices_have_four_and_six_neighbours() {
        let square =
            Locations::new(Mat::from_fn(100, 2, |i, k| [i % 10, i / 10][k] as f64).as_ref()).unwrap();
        let graph = Graph::new(&square);
        assert_eq!(graph.neighbours(55), [45, 54, 56, 65]);
        assert_eq!(graph.neighbours(0), [1, 10]);
        let hexagonal = Mat::from_fn(100, 2, |i, k| {
            let (x, y) = ((i % 10) as f64, (i / 10) as f64);
            [x + 0.5 * (y % 2.0), y * 0.75_f64.sqrt()][k]
        });
        let graph = Graph::new(&Locations::new(hexagonal.as_ref()).unwrap());
        assert_eq!(graph.neighbours(44), [33, 34, 43, 45, 53, 54]);
        let column = Mat::from_fn(100, 1, |i, _| f64::from(u8::from((i % 10 + i / 10) % 2 == 0)));
        assert!((morans_i(&square, column.as_ref()).unwrap()[0] + 1.0).abs() < 1e-12);
    }

    #[test]
    fn sparse_parts_have_neighbours_and_gaps_have_no_bridges() {
        // 100 dense locations beside 49 sparse ones, then a gap and a dense part of its own.
        let place = |i: usize| match i {
            0..100 => [(i % 10) as f64, (i / 10) as f64],
            100..149 => [20.0 + 10.0 * (i % 7) as f64, 10.0 * ((i - 100) / 7) as f64],
            _ => [(i % 10) as f64, 300.0 + (i / 10) as f64],
        };
        let coords = Mat::from_fn(200, 2, |i, k| place(i)[k]);
        let graph = Graph::new(&Locations::new(coords.as_ref()).unwrap());
        assert_eq!(graph.neighbours(124), [117, 123, 125, 131]);
        assert!((149..200).all(|i| graph.neighbours(i).iter().all(|&j| j >= 149)));
        // A sample whose unit is another.
        let other = Mat::from_fn(200, 2, |i, k| if i < 100 { 50.0 * place(i)[k] } else { place(i)[k] });
        let graph = Graph::new(&Locations::with_samples(other.as_ref(), &[100, 100]).unwrap());
        assert_eq!(graph.neighbours(55), [45, 54, 56, 65]);
    }

    #[test]
    fn samples_have_no_edges_and_line_has_two() {
        let line = Mat::from_fn(20, 1, |i, _| (i % 10) as f64);
        let graph = Graph::new(&Locations::with_samples(line.as_ref(), &[10, 10]).unwrap());
        assert_eq!(graph.neighbours(5), [4, 6]);
        assert_eq!(graph.neighbours(9), [8]);
        assert_eq!(graph.neighbours(10), [11]);
    }
}
