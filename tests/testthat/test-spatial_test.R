fit_small <- function(x, coords, ...) {
  spatial_test(x, coords, normalization = "none", progress = FALSE, ...)
}


without_facts <- function(results) {
  tibble::as_tibble(lapply(results[!names(results) %in% "status"], identity))
}

# SpatialDE 1.1.3 ---------------------------------------------------------------------------------

test_that("a small tissue gives SpatialDE's numbers from counts to q-values", {
  tissue <- spatialde_tissue()
  reference <- spatialde_reference("run")
  results <- spatial_test(
    tissue$counts,
    tissue$coords,
    normalization = "anscombe",
    covariates = ~ log(total_counts),
    sample_info = tissue$info,
    pval_method = "spatialde",
    progress = FALSE
  )
  expect_identical(results$gene, reference$g)
  excess <- (100 * log(100 / 99) - 1) / 2
  expect_equal(results$loglik_null, reference$max_ll_null + excess, tolerance = 1e-11)
  # its optimiser stops short now and then, but never finds more
  surplus <- results$loglik - reference$max_ll
  expect_gt(min(surplus), -1e-7)
  converged <- surplus < 1e-6
  expect_gt(sum(converged), 60)
  same <- results[converged, ]
  reference <- reference[converged, ]
  expect_equal(same$lengthscale, reference$l, tolerance = 1e-10)
  expect_equal(same$pval, reference$pval, tolerance = 1e-5)
  expect_identical(same$qval < 0.05, reference$qval < 0.05)
  # where nothing is spatial any delta will do
  spatial <- same$llr > 1e-3
  expect_gt(sum(spatial), 30)
  expect_equal(same$fsv[spatial], reference$FSV[spatial], tolerance = 1e-3)
  expect_equal(log(same$delta[spatial]), log(reference$max_delta[spatial]), tolerance = 1e-3)
})

# SpatialDE 1.1.3 on the bulb ---------------------------------------------------------------------

test_that("the bulb gives SpatialDE's hits, and those it missed", {
  tissue <- bulb()
  results <- spatial_test(
    tissue$residuals,
    tissue$coords,
    normalization = "none",
    pval_method = "spatialde"
  )
  reference <- utils::read.csv(gzfile(reference_path("mob_run.csv.gz")))
  rownames(reference) <- reference$g
  expect_setequal(results$gene, reference$g)
  reference <- reference[results$gene, ]

  n <- 260
  null_excess <- (n * log(n / (n - 1)) - 1) / 2
  # the reference's phi was fitted iteratively, which shifts its likelihoods by 1e-6
  shift <- reference$max_ll_null + null_excess - results$loglik_null
  expect_lt(max(abs(shift)), 2e-6)
  surplus <- results$loglik + shift - reference$max_ll
  expect_true(all(surplus >= -1e-6 * abs(reference$max_ll)))

  hits <- results$gene[results$qval < 0.05]
  known <- reference$g[reference$qval < 0.05]
  expect_length(known, 68)
  expect_setequal(hits, known)
  converged <- abs(surplus) < 1e-6
  expect_equal(results$qval[converged], reference$qval[converged], tolerance = 0.01)
})

test_that("the README's thousand genes have the printed hits and q-values", {
  tissue <- bulb()
  reference <- utils::read.csv(gzfile(reference_path("mob_readme_1000_run.csv.gz")))
  residuals <- regress_out(stabilize(tissue$counts), tissue$readme_info, ~ log(total_counts))
  results <- spatial_test(
    residuals[reference$g, ],
    tissue$coords,
    normalization = "none",
    pval_method = "spatialde"
  )
  hits <- results[results$qval < 0.05, ]
  hits <- hits[order(hits$qval), ]
  expect_equal(hits$gene[1], "Kcnh3")
  expect_setequal(hits$gene, c("Kcnh3", "Pcp4", "Igfbp2", "Gng13"))
  printed <- c(Kcnh3 = 0.001512, Pcp4 = 0.013843, Igfbp2 = 0.013843, Gng13 = 0.022632)
  expect_equal(hits$qval / printed[hits$gene], rep(1, 4), tolerance = 0.05, ignore_attr = TRUE)
  scales <- c(Kcnh3 = 1.907609, Pcp4 = 1.135190, Igfbp2 = 1.135190, Gng13 = 1.907609)
  expect_equal(hits$lengthscale, unname(scales[hits$gene]), tolerance = 1e-5)
})

test_that("calibrated p-values find what SpatialDE's hide", {
  tissue <- bulb()
  genes <- setdiff(rownames(tissue$residuals), "log_total_count")
  results <- fit_small(tissue$residuals[genes, ], tissue$coords)
  reference <- utils::read.csv(gzfile(reference_path("mob_run.csv.gz")))
  known <- setdiff(reference$g[reference$qval < 0.05], "log_total_count")
  hits <- results$gene[results$qval < 0.05]
  expect_gte(sum(known %in% hits), 60)
  expect_gt(length(hits), 250)
  expect_true(all(results$pval > 0))
})

test_that("the way in does not change a bit of the result", {
  skip_if_not_installed("SpatialExperiment")
  tissue <- bulb()
  reference <- utils::read.csv(gzfile(reference_path("mob_readme_1000_run.csv.gz")))
  counts <- tissue$counts[reference$g, ]
  dense <- as.matrix(counts)
  run <- function(x, coords = tissue$coords, ...) {
    without_facts(fit_small(x, coords, ...))
  }
  all <- run(dense)
  expect_identical(run(counts), all)
  expect_identical(run(dense, threads = 1), all)
  expect_identical(run(dense, threads = 2), all)
  expect_identical(run(as.data.frame(t(dense))), all)
  spe <- SpatialExperiment::SpatialExperiment(
    assays = list(counts = counts),
    spatialCoords = as.matrix(tissue$coords)
  )
  expect_identical(run(spe, NULL), all)
  expect_identical(run(DelayedArray::DelayedArray(counts)), all)
  some <- c(1:5, 500, 1000)
  single <- lapply(some, \(i) run(dense[i, , drop = FALSE]))
  single <- do.call(rbind, single)
  # q-value and rank depend on the other p-values
  own <- setdiff(names(all), c("qval", "rank"))
  without_qvalues <- \(x) {
    attr(x, "patina")[c("qvalues", "n_genes")] <- NULL
    x
  }
  expect_identical(without_qvalues(single[own]), without_qvalues(all[some, own]))
})

test_that("the order of the spots and of the coordinates does not matter on a lattice", {
  tissue <- example_tissue(n_spots = 150, n_genes = 60)
  coords <- as.matrix(tissue$sample_info[c("x", "y")])
  run <- function(order, coords) spatial_test(tissue$counts[, order], coords[order, ])$log10_pval
  all <- run(1:150, coords)
  expect_equal(run((1:150 * 7) %% 150 + 1, coords), all, tolerance = 1e-9)
  expect_equal(run(1:150, coords[, 2:1]), all, tolerance = 1e-9)
})

# Properties --------------------------------------------------------------------------------------

test_that("there is one row for each gene, and a bad gene changes no other", {
  tissue <- small_tissue()
  good <- fit_small(tissue$y, tissue$coords)
  expect_s3_class(good, "patina_test")
  expect_identical(good$gene, rownames(tissue$y))
  expect_true(all(good$status == "ok"))
  bad <- rbind(
    tissue$y[1:3, ],
    constant = 4,
    zero = 0,
    missing = c(NA, tissue$y[1, -1]),
    infinite = c(Inf, tissue$y[1, -1]),
    tissue$y[4:6, ]
  )
  results <- fit_small(bad, tissue$coords)
  expect_identical(
    results$status,
    rep(c("ok", "constant", "all-zero", "non-finite", "ok"), c(3, 1, 1, 2, 3))
  )
  expect_true(all(is.na(results[4:7, c("pval", "qval", "fsv", "loglik", "model", "bic")])))
  expect_false(any(is.nan(results$qval)))
  expect_identical(
    without_facts(results[c(1:3, 8:10), ]),
    without_facts(good)
  )
})

test_that("a gene that the covariates explain is told from one with little left", {
  withr::local_seed(1)
  coords <- data.frame(x = runif(60), y = runif(60))
  covariate <- as.numeric(scale(runif(60)))
  group <- rep(c("a", "b", "c"), 20)
  y <- rbind(
    same = covariate,
    tripled = 3 * covariate,
    shifted = 1e6 + 1e3 * covariate,
    nearly = covariate + 1e-7 * rnorm(60),
    far = 1e8 + covariate + 0.01 * rnorm(60),
    noise = rnorm(60)
  )
  test <- \(y, covariates, ...) {
    fit_small(y, coords, covariates = covariates, sample_info = data.frame(covariate, group), ...)
  }
  results <- test(y, ~covariate)
  expect_identical(results$status, rep(c("explained", "ok"), c(3, 3)))
  expect_true(all(is.na(results[1:3, c("pval", "qval", "llr", "loglik")])))
  fit <- c("llr", "pval", "fsv", "loglik")
  expect_equal(
    results[6, fit],
    test(y["noise", , drop = FALSE], ~covariate)[fit],
    tolerance = 0,
    ignore_attr = TRUE
  )
  # beside others, with factors, within samples
  expect_identical(test(y, ~ covariate + group)$status, results$status)
  id <- rep(1:2, each = 30)
  within <- y + rep(c(0, 5), each = 6 * 30)
  expect_identical(test(within, ~covariate, sample_id = id)$status, results$status)
  expect_identical(test(y, ~ diag(60))$status, rep("explained", 6))
  expect_identical(
    suppressWarnings(
      spatial_patterns(
        y,
        coords,
        rownames(y),
        1,
        0.3,
        normalization = "none",
        covariates = ~covariate,
        sample_info = data.frame(covariate)
      )
    )$genes$pattern,
    rep(c(NA, 1L), c(3, 3))
  )
  # residuals are still residuals for who asks for them
  expect_lt(max(abs(regress_out(y, data.frame(covariate), ~covariate)["same", ])), 1e-14)
})

test_that("columns agree with each other", {
  tissue <- small_tissue(60, 20)
  results <- fit_small(tissue$y, tissue$coords)
  expect_equal(results$fsv, results$var_spatial / (results$var_spatial + results$var_noise))
  expect_equal(results$llr, pmax(results$loglik - results$loglik_null, 0), tolerance = 1e-6)
  expect_equal(results$bic, -2 * results$loglik + 4 * log(60))
  expect_equal(results$log10_pval, log10(results$pval))
  expect_equal(results$qval, qvalues(results$pval), ignore_attr = TRUE)
  expect_lt(max(results$pval[c(FALSE, TRUE)]), 1e-3)
})

test_that("one to three dimensions, duplicated locations and user's kernels work", {
  for (dims in 1:3) {
    tissue <- small_tissue(50, 4, dims)
    tissue$coords[2, ] <- tissue$coords[1, ]
    results <- fit_small(tissue$y, tissue$coords)
    expect_true(all(results$status == "ok" & results$pval > 0 & results$pval <= 1))
    expect_true(all(results$pval[c(2, 4)] < 0.01))
  }
  results <- fit_small(tissue$y, tissue$coords, lengthscales = 1.5)
  expect_equal(results$lengthscale, rep(1.5, 4))
  results <- fit_small(tissue$y, tissue$coords, kernels = c("linear", "PER"))
  expect_true(all(results$model %in% c("linear", "PER")))
  expect_true(all(is.na(results$lengthscale[results$model == "linear"])))
})

test_that("a strong signal has a p-value that is small and not zero", {
  coords <- expand.grid(x = 1:30, y = 1:30)
  y <- rbind(a = 50 * sin(coords$x / 5) + withr::with_seed(1, stats::rnorm(900)))
  for (method in c("calibrated", "spatialde")) {
    results <- fit_small(y, coords, pval_method = method)
    expect_gt(results$pval, 0)
    expect_lt(results$log10_pval, -100)
    expect_true(is.finite(results$log10_pval))
  }
})

test_that("samples have their own mean and their own field", {
  tissue <- small_tissue(60, 6)
  id <- rep(c("b", "a", "c"), 20)
  shifted <- tissue$y + rep(100 * match(id, c("a", "b", "c")), each = 6)
  results <- fit_small(tissue$y, tissue$coords, sample_id = id)
  moved <- fit_small(shifted, tissue$coords, sample_id = id)
  expect_equal(moved$llr, results$llr, tolerance = 1e-6)
  expect_equal(moved$log10_pval, results$log10_pval, tolerance = 1e-6)
  # the order of the spots does not matter
  order <- rev(seq_along(id))
  turned <- fit_small(tissue$y[, order], tissue$coords[order, ], sample_id = id[order])
  expect_equal(turned$llr, results$llr, tolerance = 1e-8)
})

# Errors ------------------------------------------------------------------------------------------

test_that("wrong arguments are named", {
  tissue <- small_tissue()
  expect_snapshot(error = TRUE, {
    fit_small(tissue$y, tissue$coords, kernels = "RBF")
    fit_small(tissue$y, tissue$coords, lengthscales = c(1, -2))
    fit_small(tissue$y, tissue$coords, threads = 0)
    fit_small(tissue$y, tissue$coords, pval_method = "exact")
    fit_small(t(tissue$y), tissue$coords)
    fit_small(tissue$y, tissue$coords[1:4, ])
  })
  expect_error(fit_small(tissue$y, tissue$coords, kernels = "RBF"), class = "patina_error_argument")
})

test_that("p-values over few spots are no smaller than permutations of them can be", {
  # eight time points; genes with three unlike values in a row, which are nearly the bound of a narrow form
  y <- seeded_uniform(1, 8 * 2000)
  y <- matrix(stats::qnorm(y), 2000, 8)
  y[1:3, ] <- rep(c(0, 0.1, -1, 2.1, -1.2, 0, -0.1, 0.2), each = 3)
  p <- spatial_test(y, 1:8, normalization = "none")$pval
  expect_gt(min(p), 1 / factorial(8))
  expect_lt(mean(p < 0.01), 0.015)
  # four spots apart from sixteen, in which alone a gene is expressed
  coords <- cbind(c(rep(20, 4), 1:16 %% 4), c(1:4, 1:16 %/% 4))
  apart <- spatial_test(t(rep(c(1, 0), c(4, 16)) + 1e-3 * y[4:23]), coords, normalization = "none")
  expect_gt(apart$log10_pval, -50)
})

test_that("too few spots for p-values are said, and the fits kept", {
  tissue <- small_tissue(6, 2)
  expect_warning(results <- fit_small(tissue$y, tissue$coords), class = "patina_warning_few_spots")
  expect_equal(results$status, rep("no p-value", 2))
  expect_false(anyNA(results$llr))
  expect_silent(fit_small(tissue$y, tissue$coords, pval_method = "spatialde"))
  more <- small_tissue(20, 2)
  sample_id <- rep(c("whole", "scrap"), c(14, 6))
  expect_warning(fit_small(more$y, more$coords, sample_id = sample_id), "leave out sample \"scrap\"")
})

test_that("spots without values that leave no gene to test are named", {
  y <- withr::with_seed(1, matrix(rnorm(200), 5, dimnames = list(letters[1:5], paste0("s", 1:40))))
  xy <- data.frame(x = 1:40, y = 1:40 %% 6)
  y[, c(3, 9)] <- NA
  expect_warning(
    results <- spatial_test(y, xy, normalization = "none", threads = 1),
    "2 spots have no finite value.*s3.*s9",
    class = "patina_warning_non_finite_spots"
  )
  expect_identical(results$status, rep("non-finite", 5))
  y[1, ] <- 1:40
  expect_no_warning(spatial_test(y, xy, normalization = "none", threads = 1))
})
