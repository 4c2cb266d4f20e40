# Counts with depth that varies a lot, one gene in three spatial; two samples whose spots alternate.
sparse_tissue <- function(n_spots = 400, n_genes = 30) {
  set.seed(11)
  coords <- data.frame(x = stats::runif(n_spots, 0, 20), y = stats::runif(n_spots, 0, 20))
  depth <- exp(stats::rnorm(n_spots, 0, 0.8))
  counts <- vapply(
    seq_len(n_genes),
    function(gene) {
      wave <- if (gene %% 3 == 0) exp(sin(coords$x / 3 + gene)) else 1
      stats::rnbinom(n_spots, mu = 0.02 * gene * depth * wave, size = 3)
    },
    numeric(n_spots)
  )
  counts[, 1] <- counts[, 1] + 1
  dimnames(counts) <- list(NULL, paste0("g", seq_len(n_genes)))
  list(counts = t(counts), coords = coords, sample_id = rep(c("b", "a"), length.out = n_spots))
}

sparse <- function(x) methods::as(methods::as(x, "CsparseMatrix"), "dgCMatrix")

# What the combinations of a normalizer add up to, and what it gives, both centred within samples.
expect_combinations <- function(tissue, settings, sample_id = NULL, sample_info = NULL) {
  genes <- c(2, 5, 9:30)
  input <- as_input(tissue$counts, tissue$coords, sample_info = sample_info, sample_id = sample_id)
  normalizer <- suppressMessages(suppressWarnings(new_normalizer(input, settings)))
  expected <- normalizer(input_block(input, genes), genes)
  groups <- as.integer(input$sample_id %||% rep(1L, 400))
  parts <- combination_parts(normalizer, input)
  made <- parts$block(sparse(t(tissue$counts[genes, ])), genes)
  values <- as.matrix(made$entries)
  for (s in unique(groups)) {
    rows <- groups == s
    if (!is.null(parts$functions)) {
      own <- matrix(made$coefficients[, s, ], ncol(parts$functions))
      values[rows, ] <- values[rows, ] + parts$functions[rows, , drop = FALSE] %*% own
    }
    # what all spots share does not matter
    values[rows, ] <- scale(values[rows, ], scale = FALSE)
    expected[rows, ] <- scale(expected[rows, ], scale = FALSE)
  }
  expect_equal(values, expected, tolerance = 1e-6, ignore_attr = TRUE)
  attr(normalizer, "spread")
}

test_that("combinations of functions have the normalised values", {
  tissue <- sparse_tissue()
  # a spot as deep as all others together, and one of hardly any counts
  tissue$counts[, 1] <- tissue$counts[, 1] * 100
  tissue$counts[, 2] <- 0
  tissue$counts[1:2, 2] <- 1
  covariates <- data.frame(age = stats::rnorm(400))
  for (sample_id in list(NULL, tissue$sample_id)) {
    for (formula in list(NULL, ~age)) {
      for (settings in list(
        new_settings("none", formula),
        new_settings("anscombe", formula),
        new_settings(covariates = formula),
        new_settings(covariates = formula, depth = "regression"),
        new_settings(covariates = formula, depth = "shrunk"),
        new_settings(covariates = formula, size_factors = "total")
      )) {
        expect_combinations(tissue, settings, sample_id, covariates)
      }
    }
  }
  spread <- expect_combinations(sparse_tissue(), new_settings())
  expect_gt(spread$tau, 0.1)
  expect_true(spread$rough_is_known)
})

test_that("sparse and dense counts give the same results on a grid, in any order of the spots", {
  tissue <- sparse_tissue()
  run <- function(counts, ...) {
    spatial_test(
      counts,
      tissue$coords,
      approximation = "grid",
      lengthscales = c(0.5, 1, 2, 4, 8),
      sample_id = tissue$sample_id,
      threads = 1,
      ...
    )
  }
  dense <- run(tissue$counts)
  own <- run(sparse(tissue$counts))
  expect_identical(
    own[c("gene", "status", "lengthscale", "fit")],
    dense[c("gene", "status", "lengthscale", "fit")]
  )
  expect_identical(unique(own$fit), "moments")
  expect_true(all(is.na(own$llr)) && !anyNA(own$pval) && !anyNA(own$fsv))
  for (column in c("log10_pval", "fsv", "mean", "var_spatial", "var_noise")) {
    expect_equal(own[[column]], dense[[column]], tolerance = 1e-4)
  }
  planted <- seq_len(30) %% 3 == 0
  expect_lt(stats::median(own$log10_pval[planted]), stats::median(own$log10_pval[!planted]) - 1)
  skip_if_not_installed("BiocParallel")
  expect_equal(run(sparse(tissue$counts), BPPARAM = BiocParallel::SerialParam()), own, tolerance = 1e-4)
})

test_that("the grid's p-values are those of the exact score forms where they alone decide", {
  tissue <- sparse_tissue(300)
  run <- function(approximation) {
    spatial_test(tissue$counts, tissue$coords, approximation = approximation, fit = "moments", threads = 1)
  }
  grid <- run("grid")
  exact <- run("exact")
  expect_identical(exact$fit, rep("moments", 30))
  expect_equal(grid$lengthscale, exact$lengthscale)
  expect_equal(grid$fsv, exact$fsv, tolerance = 1e-4)
  expect_gt(stats::cor(grid$log10_pval, exact$log10_pval), 0.98)
})

test_that("what a fit cannot do is said before any work", {
  tissue <- sparse_tissue(50, 10)
  run <- function(...) spatial_test(tissue$counts, tissue$coords, ..., threads = 1)
  expect_snapshot(error = TRUE, {
    run(fit = "moments", pval_method = "spatialde")
    run(fit = "likelihood", approximation = "grid")
    run(fit = "often")
  })
})

test_that("above 5,000 spots p-values do not depend on what fits", {
  coords <- expand.grid(x = 1:72, y = 1:70)
  counts <- withr::with_seed(3, {
    vapply(
      1:9,
      \(gene) {
        wave <- if (gene %% 3 == 0) exp(0.3 * sin(coords$x / 6 + gene)) else 1
        stats::rnbinom(nrow(coords), mu = 0.08 * gene * wave, size = 3) + (gene == 9)
      },
      numeric(nrow(coords))
    )
  })
  counts <- t(counts)
  rownames(counts) <- paste0("g", 1:9)
  run <- function(counts, fit) {
    spatial_test(counts, coords, lengthscales = c(0.8, 5, 14), fit = fit, threads = 2, progress = FALSE)
  }
  moments <- run(counts, "moments")
  likelihood <- run(counts, "likelihood")
  expect_identical(likelihood$fit, rep("likelihood", 9))
  expect_identical(moments$fit, rep("moments", 9))
  for (column in c("pval", "log10_pval", "qval")) {
    expect_identical(moments[[column]], likelihood[[column]])
  }
  # sparse counts are combinations, whose forms are right to 1e-5 of their standard deviation
  sparse <- run(methods::as(counts, "CsparseMatrix"), "moments")
  expect_equal(sparse$log10_pval, likelihood$log10_pval, tolerance = 1e-5)
})

test_that("workers give sparse genes the same bits", {
  skip_if_not_installed("BiocParallel")
  withr::local_options(patina.block_genes = 8)
  tissue <- sparse_tissue()
  run <- function(...) {
    spatial_test(
      sparse(tissue$counts),
      tissue$coords,
      approximation = "grid",
      lengthscales = c(1, 4),
      sample_id = tissue$sample_id,
      threads = 1,
      ...
    )
  }
  here <- run()
  expect_identical(run(BPPARAM = BiocParallel::SnowParam(2)), here)
  # what they get does not grow with the counts
  size <- function(counts, settings) {
    input <- as_input(counts, tissue$coords)
    parts <- combination_parts(suppressMessages(new_normalizer(input, settings)), input)
    length(serialize(parts, NULL))
  }
  once <- unname(sparse(tissue$counts))
  more <- do.call(rbind, rep(list(once), 20))
  for (settings in list(new_settings(), new_settings(depth = "offset"), new_settings("anscombe"))) {
    expect_lt(size(more, settings) - size(once, settings), length(serialize(more, NULL)) / 4)
  }
  skip_on_os("windows")
  expect_identical(run(BPPARAM = BiocParallel::MulticoreParam(2)), here)
})
