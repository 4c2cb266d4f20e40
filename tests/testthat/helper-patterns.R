# Genes in groups, and how well groups are found again.

# Genes that are noisy copies of three fields, on the scale to be grouped.
three_patterns <- function(sizes = c(8, 12, 5), noise = 0.7) {
  withr::with_seed(4, {
    coords <- data.frame(x = stats::runif(90, 0, 9), y = stats::runif(90, 0, 9))
    fields <- cbind(sin(coords$x), cos(coords$y / 1.5), sin((coords$x + coords$y) / 2))
    truth <- rep(seq_along(sizes), sizes)
    y <- fields[, truth] + noise * stats::rnorm(90 * length(truth))
    order <- sample(length(truth))
    dimnames(y) <- list(paste0("s", 1:90), paste0("g", seq_along(truth)))
    rownames(coords) <- rownames(y)
  })
  list(y = as.data.frame(y[, order]), coords = coords, truth = truth[order])
}


fit_three <- function(data = three_patterns(), ..., n_patterns = 3, lengthscale = 2) {
  spatial_patterns(
    data$y,
    data$coords,
    names(data$y),
    n_patterns,
    lengthscale,
    normalization = "none",
    ...
  )
}


adjusted_rand <- function(a, b) {
  pairs <- function(x) sum(choose(x, 2))
  shared <- table(a, b)
  expected <- pairs(rowSums(shared)) * pairs(colSums(shared)) / choose(length(a), 2)
  most <- (pairs(rowSums(shared)) + pairs(colSums(shared))) / 2
  (pairs(shared) - expected) / (most - expected)
}
