# What benchmarks share: lattices, smooth fields, how well parts are found again, and a real section.

# A hexagonal lattice with so many spots on each side.
hexagons <- function(side) {
  grid <- expand.grid(i = seq_len(side), j = seq_len(side))
  cbind(x = grid$i + 0.5 * (grid$j %% 2), y = grid$j * sqrt(3) / 2)
}

# A Gaussian field of variance 1, nearly, with a squared exponential covariance.
smooth_field <- function(xy, lengthscale) {
  waves <- matrix(rnorm(600) / lengthscale, 2)
  phase <- runif(300, 0, 2 * pi)
  as.vector(scale(cos(xy %*% waves + rep(phase, each = nrow(xy))) %*% rnorm(300)))
}

# The adjusted Rand index of two divisions.
rand <- function(a, b) {
  table <- table(a, b)
  pairs <- \(x) sum(x * (x - 1) / 2)
  expected <- pairs(rowSums(table)) * pairs(colSums(table)) / pairs(sum(table))
  (pairs(table) - expected) / ((pairs(rowSums(table)) + pairs(colSums(table))) / 2 - expected)
}

# The SpatialExperiment of a real section, of MERFISH.
merfish_file <- \(data) file.path(data, "merfish_mousePOA.rda")
read_merfish <- function(data) {
  loaded <- new.env()
  load(merfish_file(data), loaded)
  get(ls(loaded)[[1L]], loaded)
}
