# Counts of 1,200 spots, one gene in three spatial.
tissue_of_counts <- function() {
  set.seed(17)
  coords <- data.frame(x = stats::runif(1200, 0, 35), y = stats::runif(1200, 0, 35))
  counts <- vapply(
    1:15,
    \(gene) {
      wave <- if (gene %% 3 == 0) exp(sin(coords$x / 3 + gene)) else 1
      stats::rnbinom(1200, mu = 0.1 * gene * wave, size = 3)
    },
    numeric(1200)
  )
  colnames(counts) <- paste0("g", 1:15)
  list(counts = t(counts), coords = coords)
}

test_that("the best genes have the likelihood's maximum, and the p-values of all", {
  tissue <- tissue_of_counts()
  run <- function(...) {
    spatial_test(tissue$counts, tissue$coords, normalization = "none", threads = 1, progress = FALSE, ...)
  }
  moments <- run(fit = "moments")
  likelihood <- run(fit = "likelihood")
  some <- run(fit = "moments", likelihood_genes = 3)
  best <- some$fit == "likelihood"
  expect_identical(sort(some$rank[best]), 1:3)
  expect_identical(some[!best, ], moments[!best, ], ignore_attr = TRUE)
  from_moments <- c("gene", "status", "pval", "qval", "rank", "log10_pval")
  expect_identical(some[best, from_moments], moments[best, from_moments], ignore_attr = TRUE)
  expect_identical(
    some[best, setdiff(names(some), from_moments)],
    likelihood[best, setdiff(names(some), from_moments)],
    ignore_attr = TRUE
  )
  all <- run(fit = "moments", likelihood_genes = Inf)
  expect_identical(all$fit == "likelihood", moments$qval < 0.05)
  expect_identical(run(fit = "moments", likelihood_genes = 0), moments)
})

test_that("a number of genes that is none is an error", {
  tissue <- tissue_of_counts()
  run <- function(...) spatial_test(tissue$counts, tissue$coords, threads = 1, progress = FALSE, ...)
  expect_error(run(likelihood_genes = -1), "whole number", class = "patina_error_argument")
  expect_error(run(likelihood_genes = "all"), "whole number", class = "patina_error_argument")
})

test_that("the best of 20,100 spots have likelihoods, within the number asked for", {
  coords <- expand.grid(x = 1:150, y = 1:134)
  n <- nrow(coords)
  y <- withr::with_seed(5, matrix(stats::rnorm(8 * n), 8, dimnames = list(paste0("g", 1:8), NULL)))
  for (gene in 2:5) {
    y[gene, ] <- y[gene, ] + 0.08 * gene * sin(coords$x / 9 + gene)
  }
  run <- function(...) {
    spatial_test(
      y,
      coords,
      lengthscales = c(0.7, 14),
      normalization = "none",
      threads = 2,
      progress = FALSE,
      ...
    )
  }
  some <- run(likelihood_genes = 2)
  expect_identical(some$fit, ifelse(some$rank <= 2, "likelihood", "moments"))
  expect_gt(sum(some$qval < 0.05), 2)
  best <- some[some$fit == "likelihood", ]
  expect_true(all(best$llr > 10 & is.finite(best$loglik) & is.finite(best$delta)))
  expect_identical(best$lengthscale, c(14, 14))
  moments <- run()
  expect_identical(some$log10_pval, moments$log10_pval)
  expect_true(all(is.na(moments$llr)))
})
