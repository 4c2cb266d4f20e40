//! Points that are so far apart that a kernel does not connect them, in boxes of their own.

use super::mesh::bounds;
use faer::MatRef;

/// Splits rows at gaps wider than `gap` in any coordinate, again and again. Rows of a piece are in ascending order.
pub fn split(coords: MatRef<'_, f64>, rows: Vec<u32>, gap: f64) -> Vec<Vec<u32>> {
    let mut done = Vec::new();
    let mut open = vec![rows];
    while let Some(rows) = open.pop() {
        match cut(coords, &rows, gap) {
            Some(mut parts) => {
                parts.reverse();
                open.extend(parts);
            }
            None => done.push(rows),
        }
    }
    done
}

/// The parts between gaps in the first coordinate that has any.
fn cut(coords: MatRef<'_, f64>, rows: &[u32], gap: f64) -> Option<Vec<Vec<u32>>> {
    let (low, high) = bounds(coords, rows.iter().map(|&row| row as usize));
    for k in 0..coords.ncols() {
        if high[k] - low[k] <= gap {
            continue;
        }
        // Cells of half a gap.
        let cells = (((high[k] - low[k]) / (0.5 * gap)) as usize).saturating_add(1);
        let of = |row: u32| ((coords[(row as usize, k)] - low[k]) / (0.5 * gap)) as usize;
        let mut parts: Vec<Vec<u32>> = Vec::new();
        if cells > 64 * rows.len() + 1024 {
            // Mostly empty: by sorting.
            let mut order = rows.to_vec();
            order
                .sort_by(|a, b| coords[(*a as usize, k)].total_cmp(&coords[(*b as usize, k)]).then(a.cmp(b)));
            let mut last = f64::NEG_INFINITY;
            for row in order {
                let x = coords[(row as usize, k)];
                if x - last > gap {
                    parts.push(Vec::new());
                }
                if let Some(part) = parts.last_mut() {
                    part.push(row);
                }
                last = x;
            }
            parts.iter_mut().for_each(|part| part.sort_unstable());
        } else {
            let mut taken = vec![false; cells + 2];
            rows.iter().for_each(|&row| taken[of(row)] = true);
            let mut part_of = vec![0; taken.len()];
            let (mut part, mut empty) = (0, 0);
            for (cell, &taken) in taken.iter().enumerate() {
                if taken {
                    // Two empty cells are a gap.
                    part += usize::from(empty >= 2 && cell > empty);
                    empty = 0;
                } else {
                    empty += 1;
                }
                part_of[cell] = part;
            }
            parts = vec![Vec::new(); part + 1];
            rows.iter().for_each(|&row| parts[part_of[of(row)]].push(row));
        }
        if parts.len() > 1 {
            return Some(parts);
        }
    }
    None
}
