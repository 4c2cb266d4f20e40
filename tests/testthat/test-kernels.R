lattice <- function(side) expand.grid(x = seq_len(side), y = seq_len(side))


scales_of <- function(coords, ..., kernels = "SE", lengthscales = NULL) {
  input <- as_input(matrix(0, 1L, nrow(coords)), coords, ...)
  kernel_table(kernels, lengthscales, input, NULL)
}

test_that("an approximation that cannot serve is refused", {
  tissue <- small_tissue()
  genes <- rownames(tissue$y)
  expect_error(fit_tissue(tissue, approximation = "fast"), "must be one of")
  expect_error(
    fit_tissue(tissue, approximation = "krylov", kernels = c("SE", "linear")),
    "krylov.*cannot serve.*linear",
    class = "patina_error_approximation"
  )
  expect_error(
    model_search(tissue$y, tissue$coords, genes, normalization = "none", approximation = "krylov"),
    "krylov.*cannot serve.*PER",
    class = "patina_error_approximation"
  )
  kernels <- kernel_table("SE", 1:10, as_input(tissue$y, tissue$coords), NULL)
  expect_error(
    check_approximation("exact", kernels, c(3e4, 1e4), new_run(2), available = 1e9),
    "40000 spots and 10 kernels.*128.0 GB; 1.0 GB",
    class = "patina_error_approximation"
  )
  expect_silent(check_approximation("exact", kernels, 4e4, new_run(2), available = Inf))
  expect_gt(call_rust(rust_available_memory), 1e6)
  expect_identical(fit_tissue(tissue)$status, rep("ok", 6))
})

test_that("lengthscales start at half the spacing, whatever the closest pair", {
  coords <- lattice(12)
  own <- scales_of(coords)$lengthscale
  expect_equal(range(own), c(0.5, 2 * 11 * sqrt(2)))
  expect_length(own, 10L)
  expect_true(all(own[-1L] / own[-10L] <= 2))
  # a pair, copies, a second sample far away
  expect_equal(scales_of(rbind(coords, coords[1L, ] + 1e-6))$lengthscale, own)
  expect_equal(scales_of(rbind(coords, coords[1:100, ]))$lengthscale, own)
  two <- rbind(coords, coords + 1e5)
  expect_equal(scales_of(two, sample_id = rep(1:2, each = 144))$lengthscale, own)
  # many spots, other dimensions, few spots
  expect_length(scales_of(lattice(300))$lengthscale, 12L)
  expect_equal(range(scales_of(data.frame(x = 1:50))$lengthscale), c(0.5, 98))
  expect_equal(range(scales_of(data.frame(x = 1:5, y = 1:5))$lengthscale), sqrt(2) * c(0.5, 8))
})

test_that("SpatialDE's lengthscales can be had", {
  coords <- rbind(lattice(12), c(1, 1.01))
  own <- scales_of(coords, kernels = c("SE", "PER"), lengthscales = "spatialde")
  expect_equal(unique(table(own$model)), 10L, ignore_attr = TRUE)
  expect_equal(range(own$lengthscale), c(0.005, 2 * 11 * sqrt(2)))
  expect_error(scales_of(coords, lengthscales = "spacing"), "spatialde", class = "patina_error_argument")
  data <- lattice(12)
  y <- matrix(rnorm(144L * 2L), 2L)
  test <- function(...) spatial_test(y, coords[1:144, ], normalization = "none", threads = 1, ...)
  kernels <- attr(test(pval_method = "spatialde"), "patina")$kernels
  expect_equal(kernels$lengthscale, scales_of(data, lengthscales = "spatialde")$lengthscale)
})

test_that("periods reach two spacings and miss no frequency", {
  periods <- scales_of(lattice(12), kernels = c("PER", "linear"))
  expect_true(is.na(periods$lengthscale[periods$model == "linear"]))
  periods <- periods$lengthscale[periods$model == "PER"]
  expect_equal(range(periods), c(2, 2 * 11 * sqrt(2)))
  expect_true(all(-diff(1 / periods) <= 1 / (11 * sqrt(2)) + 1e-9))
})

test_that("genes whose neighbours differ are found, and have no spatial variance", {
  set.seed(1)
  coords <- lattice(16)
  noise <- matrix(rnorm(3L * 256L, sd = 0.3), 3L)
  y <- noise + rbind((coords$x + coords$y) %% 2, coords$x %% 2, 0)
  results <- spatial_test(y, coords, normalization = "none", threads = 1)
  expect_lt(results$pval[1L], 1e-8)
  expect_lt(results$pval[2L], 1e-3)
  expect_lt(max(results$fsv[1:2]), 0.01)
  # a third of a stripe's period is not there for SE kernels, but it is for PER
  stripes <- matrix(sin(2 * pi * coords$x / 3), 1L) + noise[3L, ]
  both <- spatial_test(stripes, coords, normalization = "none", kernels = c("SE", "PER"), threads = 1)
  expect_lt(both$pval, 1e-10)
  expect_identical(both$model, "PER")
  expect_lt(abs(1 / both$lengthscale - 1 / 3), 1 / (15 * sqrt(2)))
})

test_that("a kernel that is the noise itself is no spatial variance", {
  set.seed(2)
  coords <- lattice(12)
  y <- matrix(rnorm(200L * 144L), 200L)
  y[1:5, ] <- y[1:5, ] + 3 * matrix(sin(coords$x / 2), 5L, 144L, byrow = TRUE)
  run <- function(...) spatial_test(y, coords, normalization = "none", threads = 1, ...)
  results <- run()
  expect_setequal(order(-results$fsv)[1:5], 1:5)
  expect_lt(max(results$fsv[-(1:5)]), 0.6)
  expect_true(all(results$fsv_lower <= results$fsv & results$fsv <= results$fsv_upper))
  expect_true(all(results$fsv_lower >= 0 & results$fsv_upper <= 1))
  # no pattern is among what the data allow, but for those that are certain
  none <- results$llr < 1.9
  expect_true(all(results$fsv_lower[none] == 0))
  expect_true(all(results$fsv_lower[1:5] > 0.3))
  total <- results$var_spatial + results$var_noise
  expect_equal(results$fsv, results$var_spatial / total)

  spatialde <- run(pval_method = "spatialde", lengthscales = attr(results, "patina")$kernels$lengthscale)
  expect_identical(spatialde$llr, results$llr)
  expect_gt(max(spatialde$fsv[-(1:5)]), 0.9)
})

test_that("wide kernels have exact likelihoods whatever is asked for, or an error that says so", {
  # a parabola, whose likelihood rises far above noise
  wide <- function(coords, scale, ...) {
    x <- coords[, 1]
    y <- rbind(a = (x - mean(x))^2, b = withr::with_seed(1, stats::rnorm(nrow(coords))))
    lengthscales <- scale * max(stats::dist(coords))
    spatial_test(
      y,
      coords,
      normalization = "none",
      lengthscales = lengthscales,
      threads = 1,
      progress = FALSE,
      ...
    )
  }
  scattered <- \(n) withr::with_seed(2, cbind(stats::runif(n), stats::runif(n))) * 50
  tissue <- as.matrix(example_tissue(900, 80)$sample_info[c("x", "y")])
  for (case in list(
    list(tissue, 2),
    list(scattered(260), 1),
    list(scattered(60), 2),
    list(scattered(31), 2)
  )) {
    exact <- wide(case[[1]], case[[2]], approximation = "exact")
    krylov <- wide(case[[1]], case[[2]], approximation = "krylov")
    expect_identical(krylov$status, c("ok", "ok"))
    expect_gt(exact$llr[[1]], 40)
    expect_equal(krylov$llr, exact$llr, tolerance = 1e-4)
    expect_equal(krylov$fsv, exact$fsv, tolerance = 1e-3)
  }
  # where that cannot be afforded
  expect_error(
    wide(scattered(5100), 0.5, approximation = "krylov"),
    "krylov.*lengthscale",
    class = "patina_error_approximation"
  )
})

test_that("what serves one kernel is not asked for others", {
  tissue <- small_tissue()
  for (kernel in c("PER", "linear", "matern32")) {
    expect_error(
      fit_tissue(tissue, kernels = c("SE", kernel), approximation = "grid"),
      "grid.*cannot serve",
      class = "patina_error_approximation"
    )
  }
  expect_identical(fit_tissue(tissue, approximation = "grid")$status, rep("ok", 6))
})
