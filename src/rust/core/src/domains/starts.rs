//! Partitions to start from: k-means of the factors, and of their means over neighbours.

use crate::graph::Graph;
use crate::random::SplitMix64;
use rayon::prelude::*;

/// Times that neighbours' means are taken.
const SMOOTHINGS: [usize; 3] = [0, 1, 3];
const ITERATIONS: usize = 30;

/// Values in all ways of smoothing. `x` has a row of p values for each location.
pub(crate) fn views(graph: &Graph, x: &[f64], p: usize) -> Vec<Vec<f64>> {
    let mut smoothed = x.to_vec();
    let mut views = Vec::new();
    for times in 0..=SMOOTHINGS[SMOOTHINGS.len() - 1] {
        if SMOOTHINGS.contains(&times) {
            views.push(smoothed.clone());
        }
        smoothed = neighbours_mean(graph, &smoothed, p);
    }
    views
}

/// Labels of all starts, `seeds` for each of the [`views`].
pub(crate) fn all(views: &[Vec<f64>], p: usize, d: usize, seeds: u64) -> Vec<Vec<usize>> {
    let jobs: Vec<(usize, u64)> = (0..views.len()).flat_map(|v| (0..seeds).map(move |s| (v, s))).collect();
    jobs.into_par_iter().with_max_len(1).map(|(view, seed)| k_means(&views[view], p, d, seed)).collect()
}

/// Each location's mean with its neighbours.
pub(crate) fn neighbours_mean(graph: &Graph, x: &[f64], p: usize) -> Vec<f64> {
    let mut out = x.to_vec();
    for (i, out) in out.chunks_exact_mut(p).enumerate() {
        let neighbours = graph.neighbours(i);
        for &j in neighbours {
            out.iter_mut().zip(&x[j as usize * p..]).for_each(|(a, b)| *a += b);
        }
        let count = neighbours.len() as f64 + 1.0;
        out.iter_mut().for_each(|a| *a /= count);
    }
    out
}

fn square(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Lloyd's iteration from spread centres (Arthur & Vassilvitskii 2007).
fn k_means(x: &[f64], p: usize, d: usize, seed: u64) -> Vec<usize> {
    let n = x.len() / p;
    let row = |i: usize| &x[i * p..(i + 1) * p];
    let mut random = SplitMix64::new(1, &[d as u64, seed]);
    let mut centres = row(random.below(n)).to_vec();
    let mut nearest: Vec<f64> = (0..n).map(|i| square(row(i), &centres)).collect();
    for _ in 1..d {
        let mut left = random.uniform() * nearest.iter().sum::<f64>();
        let mut next = n - 1;
        for (i, distance) in nearest.iter().enumerate() {
            left -= distance;
            if left < 0.0 {
                next = i;
                break;
            }
        }
        for (i, nearest) in nearest.iter_mut().enumerate() {
            *nearest = nearest.min(square(row(i), row(next)));
        }
        centres.extend_from_slice(row(next));
    }
    let mut labels = vec![0; n];
    for iteration in 0..ITERATIONS {
        let mut moved = false;
        for (i, label) in labels.iter_mut().enumerate() {
            let distance = |k: usize| square(row(i), &centres[k * p..(k + 1) * p]);
            let mut best = (distance(0), 0);
            for k in 1..d {
                let next = distance(k);
                if next < best.0 {
                    best = (next, k);
                }
            }
            moved |= *label != best.1;
            *label = best.1;
        }
        if !moved && iteration > 0 {
            break;
        }
        let mut counts = vec![0.0; d];
        let mut sums = vec![0.0; d * p];
        for (i, &k) in labels.iter().enumerate() {
            counts[k] += 1.0;
            sums[k * p..(k + 1) * p].iter_mut().zip(row(i)).for_each(|(s, x)| *s += x);
        }
        for k in (0..d).filter(|&k| counts[k] > 0.0) {
            (0..p).for_each(|j| centres[k * p + j] = sums[k * p + j] / counts[k]);
        }
    }
    labels
}
