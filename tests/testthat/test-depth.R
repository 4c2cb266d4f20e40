# Depth that is smooth and rough, and genes whose exponents vary.
depth_tissue <- function(n = 300, genes = 200, exponent_sd = 0, signal = 0, seed = 21) {
  withr::with_seed(seed, {
    coords <- cbind(x = stats::runif(n, 0, 17), y = stats::runif(n, 0, 17))
    log_depth <- 0.6 * sin(coords[, "x"] / 3) + 0.2 * stats::rnorm(n)
    exponents <- 1 + exponent_sd * stats::rnorm(genes)
    pattern <- outer(seq_len(genes) <= 0.1 * genes, signal * cos(coords[, "y"] / 3))
    means <- 2 + 10 * stats::runif(genes)
    mu <- means * exp(outer(exponents, log_depth) + pattern)
    counts <- matrix(stats::rnbinom(length(mu), size = 5, mu = mu), genes)
    dimnames(counts) <- list(paste0("g", seq_len(genes)), paste0("s", seq_len(n)))
    list(counts = counts, coords = coords)
  })
}

normal_values <- function(tissue, ..., sample_id = NULL, sample_info = NULL) {
  input <- as_input(tissue$counts, tissue$coords, sample_id = sample_id, sample_info = sample_info)
  normalize <- new_normalizer(input, new_settings(...))
  genes <- seq_along(input$genes)
  structure(normalize(input_block(input, genes), genes), tau = attr(normalize, "spread")$tau)
}

test_that("patches cover all spots, and smooth functions have no rough part", {
  tissue <- depth_tissue()
  input <- as_input(tissue$counts, tissue$coords, sample_id = rep(1:2, 150))
  patches <- new_patches(input, NULL)
  expect_true(all(table(patches$patch) >= 16))
  expect_true(all(lengths(tapply(input$sample_id, patches$patch, unique)) == 1))
  linear <- 3 - 0.2 * tissue$coords[, 1] + tissue$coords[, 2]
  expect_equal(smooth_part(patches, linear), linear)
})

test_that("the spread of exponents is found, and residuals do not follow depth", {
  spread <- vapply(c(0, 0.1, 0.25), \(sd) attr(normal_values(depth_tissue(exponent_sd = sd)), "tau"), 0)
  expect_lt(spread[1], 0.05)
  expect_equal(spread[2:3], c(0.1, 0.25), tolerance = 0.3)

  tissue <- depth_tissue(exponent_sd = 0.25)
  smooth <- sin(tissue$coords[, "x"] / 3)
  along <- \(y) stats::sd(stats::cor(y, smooth))
  expect_gt(along(normal_values(tissue, depth = "offset")), 0.15)
  expect_lt(along(normal_values(tissue)), 0.08)
})

test_that("genes that are proportional to depth keep signal that goes along with it", {
  tissue <- depth_tissue()
  tissue$counts[1:10, ] <- withr::with_seed(22, {
    stats::rnbinom(10 * 300, size = 5, mu = rep(5 * exp(1.3 * sin(tissue$coords[, "x"] / 3)), each = 10))
  })
  test <- \(...) suppressMessages(spatial_test(tissue$counts, tissue$coords, ...))
  kept <- test()
  lost <- test(size_factors = "total", depth = "regression")
  expect_true(all(kept$pval[1:10] < 1e-4))
  expect_gt(stats::median(lost$pval[1:10]), 1e-4)
})

test_that("offset, regression and covariates are to be had by name", {
  tissue <- depth_tissue(genes = 40)
  info <- data.frame(batch = rep(c("a", "b", "c"), 100), row.names = colnames(tissue$counts))
  offset <- normal_values(tissue, depth = "offset")
  expect_identical(normal_values(tissue, covariates = ~1), offset)
  log_total <- log(colSums(tissue$counts))
  regressed <- stats::residuals(stats::lm(offset ~ log_total))
  expect_equal(
    scale(normal_values(tissue, covariates = ~ log(total_counts)), scale = FALSE),
    regressed,
    ignore_attr = TRUE
  )
  # batch beside the slope: nothing of it is left
  both <- normal_values(tissue, covariates = ~batch, depth = "shrunk", sample_info = info)
  by_batch <- rowsum(both, info$batch) / 100
  expect_lt(max(abs(apply(by_batch, 2, stats::sd))), 1e-10)
  # samples have a level of their own
  id <- rep(1:2, each = 150)
  two <- normal_values(tissue, sample_id = id)
  expect_false(isTRUE(all.equal(two, normal_values(tissue))))
})

test_that("residuals do not depend on blocks, storage, threads or genes that cannot be tested", {
  tissue <- depth_tissue(genes = 60, exponent_sd = 0.1)
  whole <- normal_values(tissue)
  sparse <- list(counts = Matrix::Matrix(tissue$counts * 1, sparse = TRUE), coords = tissue$coords)
  expect_identical(normal_values(sparse), whole)
  extra <- list(
    counts = rbind(tissue$counts, zero = 0, missing = c(NA, tissue$counts[1, -1])),
    coords = tissue$coords
  )
  expect_identical(normal_values(extra)[, 1:60], whole[, 1:60])
  input <- as_input(tissue$counts, tissue$coords)
  normalize <- new_normalizer(input)
  expect_identical(normalize(input_block(input, 7L), 7L, 2L)[, 1], whole[, 7])
  # patches are cut the same wherever the tissue lies
  moved <- list(counts = tissue$counts, coords = 1e3 * tissue$coords + 5)
  expect_equal(normal_values(moved)[, 1:60], whole[, 1:60], tolerance = 1e-7)
})

test_that("layouts that have hardly a rough part are served", {
  tissue <- depth_tissue(n = 40, genes = 30)
  shapes <- list(
    line = cbind(1:40),
    box = cbind(rep(1:4, 10), rep(1:5, each = 8), 1:40 %% 3),
    twice = tissue$coords[rep(1:20, 2), ],
    diagonal = cbind(1:40, 1:40)
  )
  for (coords in shapes) {
    values <- normal_values(list(counts = tissue$counts, coords = coords))
    expect_true(all(is.finite(values)))
  }
  few <- list(counts = tissue$counts[, 1:7], coords = tissue$coords[1:7, ])
  expect_true(all(is.finite(normal_values(few))))
  one <- list(counts = tissue$counts[1, , drop = FALSE] + 1L, coords = tissue$coords)
  expect_true(all(is.finite(normal_values(one))))
})

test_that("the result tells of depth, and says once when it is spatial", {
  tissue <- depth_tissue()
  expect_message(result <- spatial_test(tissue$counts, tissue$coords), "Depth is itself spatial")
  depth <- attr(result, "patina")$depth
  expect_gt(depth$fsv, 0.5)
  expect_equal(depth$treatment, "shrunk")
  expect_equal(depth$size_factors$kind, "robust")
  expect_lt(depth$tau, 0.1)
  expect_match(cli::ansi_strip(format(result)), "slopes shrunk", all = FALSE)
  even <- example_tissue(150, 120)
  expect_no_message(result <- spatial_test(even$counts, even$sample_info[c("x", "y")]))
  expect_message(
    spatial_test(tissue$counts, tissue$coords, depth = "regression"),
    "signal that goes along with depth is lost"
  )
  expect_null(attr(spatial_test(tissue$counts, tissue$coords, normalization = "none"), "patina")$depth)
})

test_that("a table that looks normalised is told of", {
  counts <- withr::with_seed(1, stats::rmultinom(60, 500, rep(1, 120)))
  expect_message(spatial_test(counts, matrix(stats::runif(120), 60)), "looks normalised")
})

test_that("a gene with one or two counts has a p-value, and a status that says what not to rank by", {
  tissue <- depth_tissue()
  counts <- tissue$counts
  counts[1:3, ] <- 0
  counts[1, 5] <- counts[2, 7] <- counts[2, 90] <- 1
  counts[3, 1:3] <- 1
  results <- suppressMessages(spatial_test(counts, tissue$coords, threads = 1, progress = FALSE))
  expect_identical(results$status[1:4], c("few counts", "few counts", "ok", "ok"))
  expect_false(anyNA(results$pval))
  expect_false(anyNA(results$fsv))
  expect_match(tibble::tbl_sum(results), "2 with few counts", all = FALSE)
  expect_identical(sum(summary(results)$status$genes), nrow(counts))
})

test_that("residuals on a lattice are the same in any unit", {
  coords <- expand.grid(x = 1:20, y = 1:20)
  counts <- withr::with_seed(1, matrix(rnbinom(12 * 400, mu = 3, size = 2), 12))
  residuals <- function(unit) {
    input <- as_input(counts, coords * unit)
    new_normalizer(input)(input_block(input, 1:12), 1:12)
  }
  for (unit in c(1e-6, 55e-6, 1 / 3)) {
    expect_equal(residuals(unit), residuals(1), tolerance = 1e-12)
  }
})
