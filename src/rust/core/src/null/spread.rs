//! Some of many rows.

/// At most `count` of n rows, spread evenly by multiples of the golden ratio; all, in order, where n is not larger.
pub fn spread_rows(n: usize, count: usize) -> Vec<usize> {
    if n <= count {
        return (0..n).collect();
    }
    let golden = 0.5 * (5f64.sqrt() - 1.0);
    let mut taken = vec![false; n];
    let mut position = 0.5_f64;
    let mut left = count;
    while left > 0 {
        position = (position + golden).fract();
        let row = ((position * n as f64) as usize).min(n - 1);
        if !taken[row] {
            taken[row] = true;
            left -= 1;
        }
    }
    (0..n).filter(|&i| taken[i]).collect()
}
