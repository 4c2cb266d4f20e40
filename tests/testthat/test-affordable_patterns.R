test_that("lengthscales that cannot be had over so many spots are left out with a message", {
  coords <- expand.grid(x = 1:78, y = 1:78)
  set.seed(5)
  wave <- cbind(sin(coords$x / 20), cos(coords$y / 20))
  y <- t(wave[, c(1, 1, 2, 2)] + stats::rnorm(4 * nrow(coords)))
  rownames(y) <- paste0("g", 1:4)
  results <- data.frame(gene = rownames(y)[1:4], model = "SE", lengthscale = c(0.5, 0.5, 20, 20))
  run <- function(...) {
    spatial_patterns(y, coords, results, n_patterns = 2, normalization = "none", threads = 1, ...)
  }
  expect_message(patterns <- run(), "6,084 spots patterns have a lengthscale of at least 20")
  expect_identical(patterns$lengthscale, 20)
  expect_error(run(lengthscale = 0.5), class = "patina_error_approximation")
  results$lengthscale <- 0.5
  expect_message(coarser <- run(), "6,084 spots patterns have a lengthscale of at least")
  expect_gt(coarser$lengthscale, 0.5)
})
