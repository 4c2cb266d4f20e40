counts <- spread_counts()
coords <- spread_coords()

sparse <- Matrix::Matrix(counts * 1, sparse = TRUE)

test_that("phi is the least squares fit", {
  m <- rowMeans(counts)
  v <- apply(counts, 1, stats::var)
  phi <- stats::optimize(\(phi) sum((v - m - phi * m^2)^2), c(0, 10), tol = 1e-12)$minimum
  input <- as_input(counts, coords)
  fitted <- attr(normalizer_of(input, "anscombe"), "phi")
  expect_equal(fitted, phi, tolerance = 1e-6)
  expect_equal(stabilize(counts), log(counts + 1 / (2 * fitted)))
})

test_that("overdispersion is told from differences in depth", {
  tissue <- function(depth, phi) {
    mu <- outer(seq(2, 20, length.out = 300), depth)
    matrix(rnbinom(length(mu), mu = mu, size = 1 / phi), 300)
  }
  withr::local_seed(5)
  depth <- exp(stats::rnorm(400, sd = 0.9))
  fitted <- function(counts, ..., size_factors = "total") {
    attr(normalizer_of(as_input(counts, 1:400, ...), size_factors = size_factors), "phi")
  }
  both <- cbind(tissue(depth[1:200], 0.3), tissue(4 * depth[201:400], 0.3))
  expect_equal(fitted(tissue(depth, 0.3)), 0.3, tolerance = 0.1)
  expect_equal(fitted(both, sample_id = rep(1:2, each = 200)), 0.3, tolerance = 0.1)
  expect_equal(fitted(tissue(depth, 0.3), size_factors = NULL), 0.3, tolerance = 0.05)
  expect_equal(
    fitted(both, sample_id = rep(1:2, each = 200), size_factors = NULL),
    0.3,
    tolerance = 0.05
  )
})

test_that("the status of genes is found, dense or sparse", {
  block <- cbind(
    c(1, 0, 2),
    c(0, 0, 0),
    c(3, 3, 3),
    c(1, NA, 2),
    c(Inf, Inf, Inf),
    c(NaN, 0, 0),
    c(-1, 0, 0),
    c(1e308, 1e308, -1e308),
    c(NA, NA, NA)
  )
  expected <- c(
    "ok",
    "all-zero",
    "constant",
    rep("non-finite", 3),
    rep("ok", 2),
    "non-finite"
  )
  expect_identical(gene_status(block), expected)
  stored <- methods::as(Matrix::Matrix(block, sparse = TRUE), "generalMatrix")
  expect_identical(gene_status(stored), expected)
  expect_identical(gene_status(block[, 0]), character())
})

test_that("what is not a count is named", {
  bad <- counts
  bad[2, 3] <- -1
  bad[5, 1] <- 0.5
  expect_snapshot(stabilize(bad), error = TRUE)
  for (x in list(bad, Matrix::Matrix(bad, sparse = TRUE), as.data.frame(t(bad)))) {
    input <- as_input(x, coords)
    expect_error(normalizer_of(input, "anscombe"), "g2.*g5", class = "patina_error_counts")
    expect_error(normalizer_of(input, "pearson"), "g2.*g5", class = "patina_error_counts")
    expect_silent(normalizer_of(input, "none"))
  }
})

test_that("counts without overdispersion or without counts are explained", {
  even <- counts
  even[] <- withr::with_seed(4, rbinom(length(even), 10, 0.9))
  expect_snapshot(stabilize(even), error = TRUE)
  expect_error(stabilize(even), class = "patina_error_phi")
  expect_error(stabilize(counts * 0), class = "patina_error_counts")
  empty <- counts
  empty[, c(2, 4)] <- 0L
  input <- as_input(empty, coords)
  expect_snapshot(new_normalizer(input), error = TRUE)
  expect_error(new_normalizer(input), "s2.*s4", class = "patina_error_empty_spots")
  expect_error(
    normalizer_of(input, "anscombe", covariates = ~ log(total_counts)),
    "s2.*s4",
    class = "patina_error_covariates"
  )
  # genes none of which can be tested are no error
  expect_silent(normalizer_of(as_input(counts[1:2, ] * 0, coords)))
})
