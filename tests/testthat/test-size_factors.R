# A tissue of 150 genes; depth is a gradient and noise.
tissue <- local({
  withr::with_seed(11, {
    coords <- cbind(x = stats::runif(200, 0, 14), y = stats::runif(200, 0, 14))
    depth <- exp(0.1 * (coords[, "x"] - 7) + 0.3 * stats::rnorm(200))
    means <- exp(stats::rnorm(150, 1))
    counts <- matrix(stats::rnbinom(150 * 200, size = 5, mu = outer(means, depth)), 150)
    dimnames(counts) <- list(paste0("g", 1:150), paste0("s", 1:200))
    list(counts = counts, coords = coords, depth = depth / mean(depth))
  })
})

factors_of <- function(counts, coords = tissue$coords, size_factors = NULL, ...) {
  input <- as_input(counts, coords, ...)
  found <- attr(new_normalizer(input, new_settings(size_factors = size_factors)), "found")
  found$size
}

log_error <- function(size, depth = tissue$depth) {
  stats::sd(log(size) - log(depth))
}

test_that("robust size factors are depth, whatever one gene or a tenth of the genes do", {
  expect_lt(log_error(factors_of(tissue$counts)), 0.07)
  left <- tissue$coords[, "x"] < 5
  totals <- colSums(tissue$counts)
  dominant <- rbind(tissue$counts, big = ifelse(left, round(totals), 0))
  expect_message(size <- factors_of(dominant), "big")
  expect_lt(log_error(size), 0.07)
  expect_gt(suppressMessages(log_error(factors_of(dominant, size_factors = "total"))), 0.25)
  composed <- tissue$counts
  composed[1:30, left] <- 4L * composed[1:30, left]
  expect_lt(log_error(factors_of(composed)), 0.5 * log_error(colSums(composed) / mean(totals)))
})

test_that("a panel of markers has the size factors of the genes that are none", {
  # the right half has three times as much of two thirds of the genes, and no depth of its own
  flat <- withr::with_seed(12, {
    means <- exp(stats::rnorm(150, 1))
    matrix(stats::rnbinom(150 * 200, size = 5, mu = outer(means, tissue$depth^0)), 150)
  })
  flat[1:100, tissue$coords[, "x"] > 7] <- 3L * flat[1:100, tissue$coords[, "x"] > 7]
  expect_gt(log_error(factors_of(flat, size_factors = "total"), 1), 0.3)
  expect_lt(log_error(factors_of(flat), 1), 0.15)
  rownames(flat) <- paste0("g", 1:150)
  expect_message(result <- spatial_test(flat, tissue$coords), "do not follow the total")
  anchors <- attr(result, "patina")$depth$anchors
  expect_gt(length(anchors), 30)
  expect_lt(mean(anchors %in% paste0("g", 1:100)), 0.1)
  # where depth varies smoothly and all genes follow it, it stays
  expect_null(attr(new_normalizer(as_input(tissue$counts, tissue$coords)), "found")$anchors)
})

test_that("size factors can be totals, none, a column or a vector", {
  given <- stats::setNames(tissue$depth, colnames(tissue$counts))
  expect_equal(
    factors_of(tissue$counts, size_factors = "total"),
    unname(colSums(tissue$counts) / mean(colSums(tissue$counts))),
    tolerance = 1e-12
  )
  expect_equal(factors_of(tissue$counts, size_factors = given), unname(given))
  expect_equal(factors_of(tissue$counts, size_factors = 7 * rev(given)), unname(given))
  info <- data.frame(volume = given)
  expect_equal(factors_of(tissue$counts, size_factors = "volume", sample_info = info), unname(given))
  expect_equal(factors_of(tissue$counts, size_factors = "none"), rep(1, 200))
  expect_identical(
    factors_of(tissue$counts, size_factors = "robust"),
    factors_of(tissue$counts)
  )
})

test_that("size factors that cannot be used are explained", {
  bad <- replace(tissue$depth, 3, 0)
  expect_error(factors_of(tissue$counts, size_factors = bad), "s3", class = "patina_error_argument")
  expect_error(factors_of(tissue$counts, size_factors = "volume"), "volume", class = "patina_error_argument")
  expect_error(factors_of(tissue$counts, size_factors = 1:3), "200", class = "patina_error_argument")
  expect_error(
    spatial_test(tissue$counts, tissue$coords, normalization = "none", size_factors = "total"),
    "for counts",
    class = "patina_error_argument"
  )
  expect_error(
    spatial_test(tissue$counts, tissue$coords, normalization = "anscombe", depth = "shrunk"),
    "pearson",
    class = "patina_error_argument"
  )
})

test_that("size factors do not depend on storage, blocks, the order of genes or on samples' names", {
  sparse <- Matrix::Matrix(tissue$counts * 1, sparse = TRUE)
  size <- factors_of(tissue$counts)
  expect_identical(factors_of(sparse), size)
  expect_identical(factors_of(tissue$counts[150:1, ]), size)
  id <- rep(c("b", "a"), 100)
  expect_identical(
    factors_of(tissue$counts, sample_id = id),
    factors_of(sparse, sample_id = ifelse(id == "a", "z", "y"))
  )
})

test_that("spots of hardly any counts are named and change little", {
  counts <- tissue$counts
  counts[, 5] <- 0L
  counts[3:4, 5] <- 1L
  expect_warning(
    junk <- suppressMessages(spatial_test(counts, tissue$coords)),
    "s5",
    class = "patina_warning_junk_spots"
  )
  clean <- suppressMessages(spatial_test(counts[, -5], tissue$coords[-5, ]))
  expect_lt(
    max(abs(log(factors_of(counts[, -5], tissue$coords[-5, ]) / suppressWarnings(factors_of(counts))[-5]))),
    0.05
  )
  expect_gt(stats::cor(junk$log10_pval, clean$log10_pval), 0.98)
})

test_that("a subset of genes has the size factors of the whole table, if they are there", {
  whole <- colSums(tissue$counts)
  few <- tissue$counts[1:20, ]
  test <- function(...) spatial_test(few, tissue$coords, threads = 1, progress = FALSE, ...)
  kind <- \(results) attr(results, "patina")$depth$size_factors$kind
  expect_message(
    by_totals <- test(sample_info = data.frame(total_counts = whole)),
    "% of the counts in .*total_counts: a subset"
  )
  expect_identical(kind(by_totals), "total_counts")
  given <- suppressMessages(test(size_factors = whole))
  expect_identical(by_totals$pval, given$pval)
  expect_message(by_size <- test(sample_info = data.frame(sizeFactor = whole)), "column sizeFactor")
  expect_identical(by_size$pval, given$pval)

  # the user's word goes first; a whole table needs no other's totals; what cannot be size factors is none
  robust <- suppressMessages(test(size_factors = "robust", sample_info = data.frame(total_counts = whole)))
  expect_identical(kind(robust), "robust")
  for (column in list(colSums(few), -whole, NA, as.character(whole), whole / 1e6)) {
    results <- suppressMessages(test(sample_info = data.frame(total_counts = rep_len(column, length(whole)))))
    expect_identical(kind(results), "robust")
  }
})

test_that("a spot without counts of these genes is a spot like others, if its size factor is known", {
  whole <- colSums(tissue$counts)
  few <- tissue$counts[1:2, ]
  empty <- c(3, 17, 40)
  few[, empty] <- 0L
  test <- function(...) suppressMessages(spatial_test(few, tissue$coords, threads = 1, progress = FALSE, ...))
  results <- test(size_factors = whole)
  expect_identical(results$status, c("ok", "ok"))
  expect_identical(results$n, rep(ncol(few), 2))
  expect_identical(test(sample_info = data.frame(total_counts = whole))$pval, results$pval)
  expect_identical(test(sample_info = data.frame(sizeFactor = whole))$pval, results$pval)
  expect_identical(test(size_factors = "none")$status, c("ok", "ok"))
  for (depth in c("auto", "regression")) {
    anscombe <- \(...) suppressWarnings(test(normalization = "anscombe", depth = depth, ...))
    expect_identical(anscombe(size_factors = whole)$status, c("ok", "ok"))
    expect_error(anscombe(), "size_factors", class = "patina_error_empty_spots")
  }
  # nothing is divided by totals here
  along <- \(...) {
    test(normalization = "anscombe", sample_info = data.frame(whole), covariates = ~ log(whole), ...)
  }
  expect_identical(along()$status, c("ok", "ok"))
  expect_error(along(depth = "regression"), class = "patina_error_empty_spots")
  for (size_factors in list(NULL, "total", "robust")) {
    expect_error(test(size_factors = size_factors), "size_factors", class = "patina_error_empty_spots")
  }
})
