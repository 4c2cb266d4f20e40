//! A k-d tree over the locations of one sample: neighbours, distances, and an order that keeps near points together.

use faer::MatRef;
use rayon::prelude::*;
use std::ops::Range;

/// Most points in a leaf.
const LEAF: usize = 16;

/// A k-d tree. Inside it points go by their *place*: neighbouring places are near each other.
#[derive(Debug, Clone)]
pub(crate) struct KdTree {
    /// The row of each place.
    rows: Vec<usize>,
    /// Coordinates of each place; unused dimensions are 0.
    points: Vec<Point>,
    /// In preorder: a node's first child follows it.
    nodes: Vec<Node>,
}

/// Coordinates; unused dimensions are 0.
pub(crate) type Point = [f64; 3];

#[derive(Debug, Clone)]
struct Node {
    places: Range<usize>,
    low: Point,
    high: Point,
    /// The node after this one's descendants. A leaf has none.
    end: usize,
}

impl KdTree {
    /// A tree over some rows of a matrix with a column for each of at most three dimensions.
    pub fn new(coords: MatRef<'_, f64>, rows: Range<usize>) -> Self {
        let point = |row: usize| -> Point {
            std::array::from_fn(|k| if k < coords.ncols() { coords[(row, k)] } else { 0.0 })
        };
        Self::of_points(rows.map(|row| (row, point(row))).collect())
    }

    /// A tree over points, each with the row that it stands for.
    pub fn of_points(mut order: Vec<(usize, Point)>) -> Self {
        let mut nodes = Vec::with_capacity(2 * order.len().div_ceil(LEAF / 2));
        let count = order.len();
        build(&mut order, 0..count, &mut nodes);
        let (rows, points) = order.into_iter().unzip();
        Self { rows, points, nodes }
    }

    /// The row of each place.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The first of the rows.
    pub fn first_row(&self) -> usize {
        self.rows.iter().min().copied().unwrap_or(0)
    }

    /// Squared distance of each place to its nearest neighbour that is not at the same point (infinite if none is).
    pub fn nearest(&self) -> Vec<f64> {
        (0..self.rows.len())
            .into_par_iter()
            .with_min_len(256)
            .map(|place| {
                let mut best = f64::INFINITY;
                self.nearest_below(0, &self.points[place], &mut best);
                best
            })
            .collect()
    }

    fn nearest_below(&self, at: usize, point: &Point, best: &mut f64) {
        let node = &self.nodes[at];
        if node.nearest(point) >= *best || node.farthest(point) == 0.0 {
            return;
        }
        let Some([a, b]) = self.children(at) else {
            for other in &self.points[node.places.clone()] {
                let d2 = squared(point, other);
                if d2 > 0.0 && d2 < *best {
                    *best = d2;
                }
            }
            return;
        };
        let swap = self.nodes[b].nearest(point) < self.nodes[a].nearest(point);
        let (first, then) = if swap { (b, a) } else { (a, b) };
        self.nearest_below(first, point, best);
        self.nearest_below(then, point, best);
    }

    /// The `count` points nearest to a point (fewer if there are fewer): squared distance and row, nearest first, the
    /// smaller row first of equally near ones.
    pub fn k_nearest(&self, point: &Point, count: usize, found: &mut Vec<(f64, usize)>) {
        found.clear();
        if count > 0 && !self.nodes.is_empty() {
            self.k_nearest_below(0, point, count, found);
        }
    }

    fn k_nearest_below(&self, at: usize, point: &Point, count: usize, found: &mut Vec<(f64, usize)>) {
        let node = &self.nodes[at];
        if found.len() == count && node.nearest(point) > found[count - 1].0 {
            return;
        }
        let Some([a, b]) = self.children(at) else {
            for place in node.places.clone() {
                let next = (squared(point, &self.points[place]), self.rows[place]);
                let before =
                    |other: &(f64, usize)| other.0.total_cmp(&next.0).then(other.1.cmp(&next.1)).is_lt();
                let rank = found.partition_point(before);
                if rank < count {
                    found.truncate(count - 1);
                    found.insert(rank, next);
                }
            }
            return;
        };
        let swap = self.nodes[b].nearest(point) < self.nodes[a].nearest(point);
        let (first, then) = if swap { (b, a) } else { (a, b) };
        self.k_nearest_below(first, point, count, found);
        self.k_nearest_below(then, point, count, found);
    }

    /// The largest squared distance of two points.
    pub fn diameter(&self) -> f64 {
        // A good start: from any point to the farthest one, and on to the farthest from there.
        let farthest = |from: Point| {
            self.points
                .iter()
                .map(|p| (squared(&from, p), *p))
                .fold((0.0, from), |best, next| if next.0 > best.0 { next } else { best })
        };
        let mut best = farthest(farthest(self.points[0]).1).0;
        let mut stack = vec![(0, 0)];
        while let Some((a, b)) = stack.pop() {
            let (x, y) = (&self.nodes[a], &self.nodes[b]);
            if x.apart(y) <= best {
                continue;
            }
            match (self.children(a), self.children(b)) {
                (None, None) => {
                    for p in &self.points[x.places.clone()] {
                        for q in &self.points[y.places.clone()] {
                            best = best.max(squared(p, q));
                        }
                    }
                }
                (_, Some(halves)) if y.places.len() > x.places.len() => {
                    stack.extend(halves.map(|half| (a, half)));
                }
                (Some(halves), _) => stack.extend(halves.map(|half| (half, b))),
                (None, Some(halves)) => stack.extend(halves.map(|half| (a, half))),
            }
        }
        best
    }

    /// Calls `found(place, squared distance)` for each point within a squared radius of a place, itself
    /// included, in the order of places.
    pub fn within(&self, place: usize, radius2: f64, mut found: impl FnMut(usize, f64)) {
        let point = &self.points[place];
        let mut at = 0;
        while at < self.nodes.len() {
            let node = &self.nodes[at];
            if node.nearest(point) > radius2 {
                at = node.end;
                continue;
            }
            if node.end == at + 1 {
                for other in node.places.clone() {
                    let d2 = squared(point, &self.points[other]);
                    if d2 <= radius2 {
                        found(other, d2);
                    }
                }
            }
            at += 1;
        }
    }

    /// The children of a node, none for a leaf.
    fn children(&self, at: usize) -> Option<[usize; 2]> {
        (self.nodes[at].end > at + 1).then(|| [at + 1, self.nodes[at + 1].end])
    }
}

/// The squared distance, summed in the same order as that of locations.
#[inline]
fn squared(a: &Point, b: &Point) -> f64 {
    let mut sum = 0.0;
    for k in 0..3 {
        let diff = a[k] - b[k];
        sum += diff * diff;
    }
    sum
}

impl Node {
    /// The least squared distance of a point to the box.
    fn nearest(&self, point: &Point) -> f64 {
        let mut sum = 0.0;
        for (k, p) in point.iter().enumerate() {
            let gap = (self.low[k] - p).max(p - self.high[k]).max(0.0);
            sum += gap * gap;
        }
        sum
    }

    /// The largest squared distance of a point to the box.
    fn farthest(&self, point: &Point) -> f64 {
        let mut sum = 0.0;
        for (k, p) in point.iter().enumerate() {
            let gap = (self.high[k] - p).max(p - self.low[k]);
            sum += gap * gap;
        }
        sum
    }

    /// The largest squared distance between points of two boxes.
    fn apart(&self, other: &Self) -> f64 {
        let mut sum = 0.0;
        for k in 0..3 {
            let gap = (self.high[k] - other.low[k]).max(other.high[k] - self.low[k]);
            sum += gap * gap;
        }
        sum
    }
}

fn build(order: &mut [(usize, Point)], places: Range<usize>, nodes: &mut Vec<Node>) {
    let part = &mut order[places.clone()];
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for (_, point) in part.iter() {
        for k in 0..3 {
            low[k] = low[k].min(point[k]);
            high[k] = high[k].max(point[k]);
        }
    }
    let at = nodes.len();
    nodes.push(Node { places: places.clone(), low, high, end: at + 1 });
    if part.len() <= LEAF {
        return;
    }
    let widest = (0..3)
        .max_by(|&a, &b| (high[a] - low[a]).total_cmp(&(high[b] - low[b])).then(b.cmp(&a)))
        .unwrap_or(0);
    let middle = part.len() / 2;
    part.select_nth_unstable_by(middle, |a, b| a.1[widest].total_cmp(&b.1[widest]).then(a.0.cmp(&b.0)));
    let split = places.start + middle;
    build(order, places.start..split, nodes);
    build(order, split..places.end, nodes);
    nodes[at].end = nodes.len();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{grid_with_gaps, irregular};
    use crate::locations::Locations;

    fn check(locations: &Locations) {
        for rows in locations.samples() {
            let tree = KdTree::new(locations.coords(), rows.clone());
            let mut sorted = tree.rows().to_vec();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(rows.clone()));

            let d2 = |a: usize, b: usize| locations.squared_distance(tree.rows()[a], tree.rows()[b]);
            let n = rows.len();
            let nearest = tree.nearest();
            let mut most = 0.0_f64;
            for (a, nearest) in nearest.into_iter().enumerate() {
                let others = (0..n).map(|b| d2(a, b));
                assert_eq!(nearest, others.clone().filter(|d| *d > 0.0).fold(f64::INFINITY, f64::min));
                most = others.fold(most, f64::max);
            }
            assert_eq!(tree.diameter(), most);
            let mut found = Vec::new();
            for (a, count) in [(0, 1), (n / 2, 7), (n - 1, n), (n / 3, n + 3)] {
                let point = std::array::from_fn(|k| {
                    if k < locations.dim() { locations.coords()[(tree.rows()[a], k)] } else { 0.0 }
                });
                tree.k_nearest(&point, count, &mut found);
                let mut expected: Vec<(f64, usize)> = (0..n).map(|b| (d2(a, b), tree.rows()[b])).collect();
                expected.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
                expected.truncate(count);
                assert_eq!(found, expected);
            }
            for (a, radius2) in [(0, 0.3), (n / 2, 2.0), (n - 1, 1e9), (n / 3, 0.0)] {
                let mut found = Vec::new();
                tree.within(a, radius2, |b, d| found.push((b, d)));
                let expected: Vec<(usize, f64)> =
                    (0..n).map(|b| (b, d2(a, b))).filter(|(_, d)| *d <= radius2).collect();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn agrees_with_brute_force_in_every_dimension() {
        for dim in 1..=3 {
            for n in [5, 16, 17, 100, 333] {
                check(&irregular(n, dim, n as u64));
            }
        }
        check(&grid_with_gaps(18));
    }
}
