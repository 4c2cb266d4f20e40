# Small tables of counts.

# Seven genes of twelve spots, and the spots' places.
few_counts <- function() {
  withr::with_seed(1, matrix(rpois(84, 3), 7, dimnames = list(paste0("g", 1:7), paste0("s", 1:12))))
}

few_coords <- function() {
  withr::with_seed(2, data.frame(x = runif(12), y = runif(12), row.names = paste0("s", 1:12)))
}

# Thirty genes of forty spots, with more spread than Poisson's.
spread_counts <- function() {
  withr::with_seed(
    1,
    matrix(
      rnbinom(1200, mu = rgamma(30, 1) * 5, size = 2),
      30,
      dimnames = list(paste0("g", 1:30), paste0("s", 1:40))
    )
  )
}

spread_coords <- function() withr::with_seed(2, matrix(runif(80), 40))

normalizer_of <- function(input, ...) {
  new_normalizer(input, new_settings(...), new_run(1L))
}
