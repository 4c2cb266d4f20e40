//! Roots of functions of one variable.

/// The root of a function that falls from `values[0] >= 0` at `bounds[0]` to `values[1] <= 0` at `bounds[1]`, within
/// about `tolerance`, by Ridders' method (1979), which halves the interval at each step at least.
pub fn falling_root(f: impl Fn(f64) -> f64, bounds: [f64; 2], values: [f64; 2], tolerance: f64) -> f64 {
    let ([mut low, mut high], [mut f_low, mut f_high]) = (bounds, values);
    if f_low <= 0.0 {
        return low;
    }
    if f_high >= 0.0 {
        return high;
    }
    let mut last = f64::NAN;
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if high - low <= tolerance {
            return middle;
        }
        let f_middle = f(middle);
        let x = middle + (middle - low) * f_middle / (f_middle * f_middle - f_low * f_high).sqrt();
        // A function that is next to nothing at an end draws its steps there, wherever the root is.
        let falls_here = || {
            let (left, right) = (x - tolerance, x + tolerance);
            (left <= low || f(left) >= 0.0) && (right >= high || f(right) <= 0.0)
        };
        if (x - last).abs() <= tolerance && falls_here() {
            return x;
        }
        last = x;
        let value = f(x);
        for (at, value) in [(middle, f_middle), (x, value)] {
            let inside = at > low && at < high;
            if value >= 0.0 && inside {
                (low, f_low) = (at, value);
            }
            if value <= 0.0 && inside {
                (high, f_high) = (at, value);
            }
        }
        if f_low == 0.0 {
            return low;
        }
        if f_high == 0.0 {
            return high;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_found() {
        for (f, bounds, root) in [
            ((|x: f64| 2.0 - x * x) as fn(f64) -> f64, [0.0, 2.0], 2f64.sqrt()),
            (|x| (0.3 - x).powi(3), [-1.0, 5.0], 0.3),
            (|x| 1e-9 - x, [0.0, 1e6], 1e-9),
            (|x| (1.0 - x).exp() - 1.0, [-30.0, 40.0], 1.0),
        ] {
            let got = falling_root(f, bounds, bounds.map(f), 1e-12);
            assert!((got - root).abs() < 1e-11, "{got} {root}");
        }
        // Next to nothing at both ends, and the root at 0.8.
        let flat = |x: f64| (0.8 - x) * (x + 1e-30) * (1.0 + 1e-30 - x);
        for (low, high) in [(1e-31, -1e-31), (1e-14, -1e-14), (1e-31, -1e-14)] {
            let got = falling_root(flat, [0.0, 1.0], [low, high], 1e-13);
            assert!((got - 0.8).abs() < 1e-12, "{got}");
        }
        assert_eq!(falling_root(|x| -x, [0.0, 1.0], [0.0, -1.0], 1e-9), 0.0);
    }
}
