test_that("a small tissue gives SpatialDE's models and probabilities", {
  tissue <- spatialde_tissue()
  reference <- spatialde_reference("model_search")
  models <- model_search(
    tissue$counts,
    tissue$coords,
    reference$g,
    probabilities = "spatialde",
    normalization = "anscombe",
    covariates = ~ log(total_counts),
    sample_info = tissue$info,
    progress = FALSE
  )
  expect_identical(models$model, reference$model)
  expect_equal(models$lengthscale, reference$l, tolerance = 1e-10)
  expect_gt(min(models$loglik - reference$max_ll), -1e-7)
  expect_equal(models$loglik, reference$max_ll, tolerance = 2e-5)
  for (model in c("SE", "PER", "linear")) {
    difference <- models[[paste0("prob_", model)]] - reference[[paste0(model, "_prob")]]
    expect_lt(max(abs(difference)), 1e-4)
  }
})

test_that("the bulb's hits follow SpatialDE's models", {
  tissue <- bulb()
  reference <- utils::read.csv(gzfile(reference_path("mob_model_search.csv.gz")))
  models <- model_search(
    tissue$residuals,
    tissue$coords,
    reference$g,
    probabilities = "spatialde",
    normalization = "none"
  )
  expect_s3_class(models, "patina_models")
  expect_identical(models$gene, reference$g)
  # the reference's phi shifts its likelihoods by 1e-6; its optimiser stops short now and then
  expect_true(all(models$loglik - reference$max_ll > -2e-6))
  expect_identical(models$model, reference$model)
  expect_equal(models$lengthscale, reference$l, tolerance = 1e-6)
  expect_lt(max(abs(models$prob_SE - reference$SE_prob)), 1e-3)
  expect_lt(max(abs(models$prob_PER - reference$PER_prob)), 1e-3)
  expect_lt(max(abs(models$prob_linear - reference$linear_prob)), 1e-3)
})

test_that("probabilities follow from the criterion", {
  tissue <- small_tissue(50, 6)
  run <- function(...) model_search(tissue$y, tissue$coords, normalization = "none", ...)
  genes <- rownames(tissue$y)
  models <- run(genes, lengthscales = "spatialde")
  sharper <- run(genes, probabilities = "spatialde")
  columns <- c("prob_SE", "prob_PER", "prob_linear")
  expect_equal(rowSums(models[columns]), rep(1, 6))
  squared <- as.matrix(models[columns])^2
  expect_equal(as.matrix(sharper[columns]), squared / rowSums(squared))
  alone <- lapply(c("SE", "PER", "linear"), \(kernel) {
    run(genes, kernels = kernel, lengthscales = "spatialde")
  })
  best <- Reduce(pmin, lapply(alone, `[[`, "bic"))
  expect_equal(models$bic, best)
  test <- spatial_test(tissue$y, tissue$coords, normalization = "none", lengthscales = "spatialde")
  expect_equal(alone[[1]]$loglik, test$loglik)
  expect_true(all(is.na(alone[[1]]$prob_linear)))
})

test_that("a gradient is linear, and results are carried along", {
  tissue <- small_tissue(60, 6)
  tissue$y[1, ] <- 2 * tissue$coords$x + 0.1 * tissue$y[1, ]
  results <- spatial_test(tissue$y, tissue$coords, normalization = "none")
  models <- suppressMessages(
    model_search(tissue$y, tissue$coords, results, normalization = "none")
  )
  expect_identical(models$gene, results$gene[results$qval < 0.05])
  expect_identical(models$qval, results$qval[results$qval < 0.05])
  expect_identical(models$model[models$gene == "g1"], "linear")
  expect_true(is.na(models$lengthscale[models$gene == "g1"]))
  some <- model_search(tissue$y, tissue$coords, results[c(3, 1), ], normalization = "none")
  expect_identical(some$gene, c("g3", "g1"))
})

test_that("all classes give the same, and a bad gene keeps its row", {
  tissue <- small_tissue(30, 5)
  tissue$y[2, ] <- 1
  genes <- rownames(tissue$y)
  run <- \(x, coords = tissue$coords) model_search(x, coords, genes, normalization = "none")
  models <- run(tissue$y)
  expect_identical(is.na(models$model), genes == "g2")
  expect_identical(run(as.data.frame(t(tissue$y))), models)
  expect_identical(run(Matrix::Matrix(tissue$y, sparse = TRUE)), models)
  skip_if_not_installed("SpatialExperiment")
  spe <- SpatialExperiment::SpatialExperiment(
    assays = list(counts = tissue$y),
    spatialCoords = as.matrix(tissue$coords)
  )
  expect_identical(run(spe, NULL), models)
})

test_that("unknown genes are named", {
  tissue <- small_tissue()
  expect_error(
    model_search(tissue$y, tissue$coords, c("g1", "absent"), normalization = "none"),
    "of `genes` is not in `x`",
    class = "patina_error_names"
  )
  search <- \(results) {
    model_search(tissue$y, tissue$coords, results, normalization = "none", progress = FALSE)
  }
  expect_error(search(1:3), "`genes` must be names", class = "patina_error_argument")
  expect_error(search(data.frame(name = "g1")), "`genes` is a table", class = "patina_error_argument")
  none <- data.frame(gene = rownames(tissue$y), qval = 1)
  expect_error(search(none), "below 0.05.*by `genes`", class = "patina_error_data")
})

test_that("above 5,000 spots periods that are too short are left out and named, and all else is there", {
  skip_on_cran()
  coords <- expand.grid(x = 1:75, y = 1:70)
  wave <- cos(2 * pi * coords$x / 25)
  y <- withr::with_seed(1, rbind(wave = wave + rnorm(5250), slope = coords$x / 25 + rnorm(5250)))
  search <- \(...) {
    model_search(y, coords, rownames(y), normalization = "none", threads = 2, progress = FALSE, ...)
  }
  expect_warning(
    models <- search(lengthscales = c(0.5, 6, 12, 25, 60)),
    "1 kernel is too short for 5250 spots.*1 period of the .*PER.* kernel: 0.5",
    class = "patina_warning_kernels"
  )
  kernels <- attr(models, "patina")$kernels
  expect_identical(kernels$model, rep(c("SE", "PER", "linear"), c(5, 4, 1)))
  # a lattice for the shortest would have more nodes than there are spots
  expect_identical(kernels$engine[6:9], c("landmarks", rep("interpolated", 3)))
  expect_identical(models$model[2], "linear")
  expect_false(anyNA(models$loglik))
  expect_equal(rowSums(models[c("prob_SE", "prob_PER", "prob_linear")]), c(1, 1))
  # with no period left, the other families are compared
  expect_warning(
    others <- search(kernels = c("PER", "SE", "linear"), lengthscales = c(1, 2)),
    class = "patina_warning_kernels"
  )
  expect_identical(is.na(others$prob_PER), c(TRUE, TRUE))
  expect_identical(others$model[2], "linear")
  expect_error(search(kernels = "PER", lengthscales = 1), class = "patina_error_approximation")
})

test_that("families are told apart over 102,400 spots, and what cannot be had is named", {
  skip_on_cran()
  coords <- expand.grid(x = 1:320, y = 1:320)
  n <- nrow(coords)
  waves <- function(numbers, angles) {
    Reduce(`+`, Map(\(k, a) cos(k * (cos(a) * coords$x + sin(a) * coords$y) + 7 * a), numbers, angles))
  }
  y <- withr::with_seed(2, {
    smooth <- waves(abs(stats::rnorm(60)) / 25 + 0.005, stats::runif(60, 0, 2 * pi))
    fine <- waves(rep(2 * pi / 20, 40), stats::runif(40, 0, 2 * pi))
    signals <- list(smooth = smooth, fine = fine, slope = coords$x)
    t(vapply(signals, \(signal) as.vector(scale(signal)) * 0.3 + stats::rnorm(n), numeric(n)))
  })
  search <- \(...) {
    model_search(y, coords, rownames(y), normalization = "none", threads = 2, progress = FALSE, ...)
  }
  expect_warning(
    models <- search(lengthscales = c(6, 20, 80)),
    "2 kernels are too short for 102400 spots.*2 periods of the .*PER.* kernel: 6, 20",
    class = "patina_warning_kernels"
  )
  expect_identical(models$model, c("SE", "SE", "linear"))
  expect_identical(models$lengthscale, c(20, 6, NA))
  expect_equal(rowSums(models[c("prob_SE", "prob_PER", "prob_linear")]), c(1, 1, 1))
  expect_identical(unique(attr(models, "patina")$kernels$engine), c("interpolated", "pivoted_cholesky"))
  # what explains less of the data is never better by the likelihood
  one <- search(kernels = "SE", lengthscales = 20)
  expect_equal(one$loglik[1], models$loglik[1])
  expect_true(all(one$loglik <= search(kernels = "SE", lengthscales = c(20, 80))$loglik))
  expect_error(search(kernels = "PER", lengthscales = 5), class = "patina_error_approximation")
})

test_that("results stand where coordinates would, under one name in all verbs", {
  skip_if_not_installed("SpatialExperiment")
  tissue <- example_tissue(100, 24, as = "SpatialExperiment")
  results <- spatial_test(tissue, threads = 1)
  hits <- top_genes(results, 6)
  models <- model_search(tissue, genes = hits, threads = 1)
  expect_identical(model_search(tissue, hits, threads = 1), models)
  rlang::reset_message_verbosity("patina_results")
  expect_message(
    expect_identical(model_search(tissue, results = hits, threads = 1), models),
    "called `genes` now",
    class = "patina_message"
  )
  patterns <- spatial_patterns(tissue, genes = hits, n_patterns = 2, threads = 1)
  expect_identical(spatial_patterns(tissue, hits, n_patterns = 2, threads = 1), patterns)
  expect_identical(plot_genes(tissue, hits)$data, plot_genes(tissue, genes = hits)$data)
  expect_error(model_search(tissue, hits, hits), "column gene", class = "patina_error_coords")
  expect_error(spatial_test(tissue, hits), "All genes of `x` are tested", class = "patina_error_coords")
  expect_error(
    model_search(tissue, genes = hits, results = hits),
    "not both",
    class = "patina_error_argument"
  )
})
