test_that("a small tissue gives SpatialDE's patterns, and the ones that its counts were made of", {
  tissue <- spatialde_tissue()
  reference <- spatialde_reference("patterns")
  fit <- \(n_patterns) {
    spatial_patterns(
      tissue$counts,
      tissue$coords,
      reference$g,
      n_patterns,
      lengthscale = 1.5,
      normalization = "anscombe",
      covariates = ~ log(total_counts),
      sample_info = tissue$info
    )$genes
  }
  # numbers are arbitrary: ours counts the genes
  agreement <- table(fit(2)$pattern, reference$pattern)
  expect_identical(sum(apply(agreement, 1, max)), nrow(reference))
  # spatialde.py: hotspot, stripes, gradient and three without pattern in turn
  made_of <- as.integer(sub("g", "", reference$g)) %% 6
  expect_identical(fit(3)$pattern, c(2L, 3L, 1L)[made_of + 1])
})

test_that("known patterns are found, counted and numbered by size", {
  data <- three_patterns()
  expect_message(
    fit <- fit_three(data, n_patterns = NULL, lengthscale = NULL),
    "3 patterns at lengthscale"
  )
  expect_s3_class(fit, "patina_patterns")
  expect_identical(fit$genes$gene, names(data$y))
  expect_identical(fit$genes$pattern, c(2L, 1L, 3L)[data$truth])
  expect_true(all(fit$genes$membership > 0.99))
  expect_equal(sum(fit$weights), 1)
  expect_equal(unname(rowSums(fit$memberships)), rep(1, 25))
  expect_true(all(diff(fit$elbo) >= -1e-9 * abs(fit$elbo[[1]])))
  expect_identical(sum(fit$selection$chosen), 1L)
  expect_equal(fit$selection$bound[fit$selection$chosen], tail(fit$elbo, 1))

  expect_named(fit$patterns, c("spot", "x", "y", "pattern", "value"))
  expect_identical(fit$patterns$spot, rep(rownames(data$coords), 3))
  expect_identical(fit$patterns$x, rep(data$coords$x, 3))
  first <- fit$patterns$value[fit$patterns$pattern == 1]
  expect_gt(cor(first, cos(data$coords$y / 1.5)), 0.95)
})

test_that("the same answer on every run, number of threads and class of input", {
  data <- three_patterns()
  fit <- fit_three(data, n_patterns = 2:4, threads = 1) |> suppressMessages()
  again <- fit_three(data, n_patterns = 2:4, threads = 2) |> suppressMessages()
  expect_identical(again, fit)
  before <- withr::with_seed(1, stats::runif(1))
  after <- withr::with_seed(1, {
    fit_three(data)
    stats::runif(1)
  })
  expect_identical(after, before)

  m <- t(as.matrix(data$y))
  by_matrix <- spatial_patterns(
    m,
    data$coords,
    names(data$y),
    2:4,
    2,
    normalization = "none"
  ) |>
    suppressMessages()
  expect_equal(by_matrix, fit)

  # Spots in another order, coordinates with them or not.
  shuffled <- rev(seq_len(90))
  turned <- spatial_patterns(
    m[, shuffled],
    data$coords,
    names(data$y),
    3,
    2,
    normalization = "none"
  )
  expect_identical(turned$genes$pattern, fit$genes$pattern)
  expect_equal(turned$patterns$value[1:90], rev(fit$patterns$value[1:90]), tolerance = 1e-6)

  skip_if_not_installed("SpatialExperiment")
  spe <- SpatialExperiment::SpatialExperiment(
    assays = list(logcounts = m),
    spatialCoords = as.matrix(data$coords)
  )
  by_spe <- spatial_patterns(
    spe,
    genes = rownames(m),
    n_patterns = 2:4,
    lengthscale = 2,
    assay = "logcounts",
    normalization = "none"
  ) |>
    suppressMessages()
  expect_equal(by_spe$genes, fit$genes)
  expect_equal(by_spe$patterns, fit$patterns)
})

test_that("results of the test say which genes and which lengthscales", {
  data <- three_patterns()
  results <- tibble::tibble(
    gene = names(data$y),
    model = "SE",
    lengthscale = rep(c(1.5, 2, 3, 2, 1.5), 5),
    qval = c(rep(0.001, 20), rep(0.5, 4), NA)
  )
  expect_message(
    fit <- spatial_patterns(data$y, data$coords, results, 3, normalization = "none"),
    "20 genes"
  ) |>
    expect_message("lengthscale 2")
  expect_identical(fit$genes$gene, results$gene[1:20])
  expect_setequal(fit$selection$lengthscale, c(1.5, 2, 3))
  # A filtered table is taken as it is.
  fit <- spatial_patterns(data$y, data$coords, results[16:25, ], 2, 2, normalization = "none")
  expect_identical(nrow(fit$genes), 10L)

  # A pseudo-gene that was tested beside them.
  with_pseudo <- rbind(results[1:10, ], list("log_total_count", "SE", 5, 1e-9))
  expect_message(
    spatial_patterns(data$y, data$coords, with_pseudo, 2, 2, normalization = "none"),
    "log_total_count"
  )

  results$qval <- 1
  expect_error(
    spatial_patterns(data$y, data$coords, results, normalization = "none"),
    class = "patina_error_data"
  )
  expect_error(
    spatial_patterns(data$y, data$coords, data.frame(g = "g1"), normalization = "none"),
    class = "patina_error_argument"
  )
})

test_that("without genes the test's hits are grouped, and the input is read once", {
  data <- three_patterns()
  names(data$y)[2] <- "g1"
  warnings <- character()
  fit <- withCallingHandlers(
    suppressMessages(
      spatial_patterns(data$y, data$coords, n_patterns = 3, lengthscale = 2, normalization = "none")
    ),
    patina_warning_duplicated_genes = function(cnd) {
      warnings <<- c(warnings, conditionMessage(cnd))
      rlang::cnd_muffle(cnd)
    }
  )
  expect_length(warnings, 1)
  expect_identical(fit$genes$gene, names(data$y))
})

test_that("a gene that follows no other is told apart", {
  data <- three_patterns()
  data$y$own <- withr::with_seed(9, stats::rnorm(90))
  expect_message(fit <- fit_three(data, n_patterns = 2:6), "single gene.*own")
  expect_identical(which(fit$genes$pattern == 4L), 26L)
})

test_that("one gene, few genes and bad genes", {
  data <- three_patterns()
  one <- spatial_patterns(data$y, data$coords, "g3", lengthscale = 2, normalization = "none")
  expect_identical(one$genes$pattern, 1L)
  expect_identical(one$genes$membership, 1)
  expect_error(
    spatial_patterns(data$y, data$coords, c("g3", "g4"), 3, 2, normalization = "none"),
    "more than the 2 genes",
    class = "patina_error_argument"
  )

  data$y$g5[7] <- NA
  data$y$g9 <- 3
  expect_warning(fit <- fit_three(data), "g5 \\(non-finite\\)", class = "patina_warning_genes")
  bad <- match(c("g5", "g9"), fit$genes$gene)
  expect_identical(which(is.na(fit$genes$pattern)), sort(bad))
  without <- fit_three(list(
    y = data$y[setdiff(names(data$y), c("g5", "g9"))],
    coords = data$coords
  ))
  expect_identical(fit$genes[-bad, ], without$genes)
  expect_error(
    spatial_patterns(data$y, data$coords, c("g5", "g9"), normalization = "none"),
    class = "patina_error_data"
  )
})

test_that("arguments are checked", {
  data <- three_patterns()
  expect_error(fit_three(data, n_patterns = 0), class = "patina_error_argument")
  expect_error(fit_three(data, n_patterns = 2.5), class = "patina_error_argument")
  expect_error(fit_three(data, lengthscale = -1), class = "patina_error_argument")
  expect_error(fit_three(data, restarts = 0), class = "patina_error_argument")
  expect_error(fit_three(data, seed = NA), class = "patina_error_argument")
  expect_error(fit_three(data, tolerance = 2), class = "patina_error_argument")
  expect_error(fit_three(data, n_pattern = 2))
  expect_error(
    spatial_patterns(data$y, data$coords, c("g1", "Gapdh"), normalization = "none"),
    "Gapdh",
    class = "patina_error_names"
  )
})

test_that("samples do not know of each other", {
  data <- three_patterns()
  # The samples' spots are interleaved; the second lies on the first.
  slide <- rep(c("b", "a"), 45)
  fit <- fit_three(data, sample_id = slide)
  expect_gt(mean(fit$genes$pattern == c(2L, 1L, 3L)[data$truth]), 0.9)
  expect_identical(fit$patterns$x[1:90], data$coords$x)
  first <- fit$patterns$value[fit$patterns$pattern == 1]
  expect_gt(cor(first, cos(data$coords$y / 1.5)), 0.85)
  expect_equal(predict(fit)$value, fit$patterns$value, tolerance = 1e-6)
  expect_equal(
    predict(fit, data$coords, sample_id = slide)$value,
    fit$patterns$value,
    tolerance = 1e-6
  )
  expect_error(predict(fit, data$coords), class = "patina_error_argument")
  expect_error(
    predict(fit, data$coords, sample_id = rep("c", 90)),
    class = "patina_error_argument"
  )
})

test_that("one coordinate will do", {
  withr::local_seed(2)
  time <- 1:60
  y <- sapply(1:12, \(g) sin(time / 8 + pi / 2 * (g %% 2)) + stats::rnorm(60, sd = 0.5))
  colnames(y) <- letters[1:12]
  fit <- spatial_patterns(
    as.data.frame(y),
    time,
    letters[1:12],
    normalization = "none"
  ) |>
    suppressMessages()
  expect_identical(length(fit$weights), 2L)
  expect_identical(fit$genes$pattern, rep(1:2, 6))
  expect_named(predict(fit, c(1.5, 2)), c("x", "pattern", "value", "se"))
})

test_that("the patterns of the simulated tissue are found and counted", {
  tissue <- example_tissue()
  coords <- tissue$sample_info[c("x", "y")]
  truth <- tissue$truth[tissue$truth$pattern != "none", ]
  for (normalization in c("anscombe", "pearson")) {
    fit <- spatial_patterns(
      tissue$counts,
      coords,
      truth$gene,
      normalization = normalization
    ) |>
      suppressMessages()
    expect_length(fit$weights, 4L)
    expect_gt(adjusted_rand(fit$genes$pattern, truth$pattern), 0.95)
  }
})

test_that("without genes the test chooses them", {
  tissue <- example_tissue(n_spots = 120, n_genes = 40)
  coords <- tissue$sample_info[c("x", "y")]
  expect_message(
    fit <- spatial_patterns(tissue$counts, coords, n_patterns = 3, lengthscale = 2),
    "qval"
  )
  results <- spatial_test(tissue$counts, coords)
  # The whole table, or one that was filtered.
  for (genes in list(results, results[results$qval < 0.05, ])) {
    same <- spatial_patterns(tissue$counts, coords, genes, 3, 2) |> suppressMessages()
    expect_identical(same, fit)
  }
})

test_that("SpatialDE's README example: the best known bound, and the printed groups", {
  counts <- utils::read.csv(
    data_path("Rep11_MOB_0.csv.gz"),
    row.names = 1,
    check.names = FALSE
  )
  info <- utils::read.csv(data_path("MOB_sample_info.csv"), row.names = 1)
  printed <- utils::read.csv(reference_path("mob_readme_aeh.csv"))
  counts <- counts[rownames(info), colSums(counts) >= 3]
  fit <- function(n_patterns, lengthscale) {
    spatial_patterns(
      counts,
      info[c("x", "y")],
      printed$g,
      n_patterns,
      lengthscale,
      normalization = "anscombe",
      covariates = ~ log(total_counts),
      sample_info = info
    ) |>
      suppressMessages()
  }
  three <- fit(3, c(0.5, 0.8, 1.1, 1.5, 1.8, 2.5, 4))
  expect_identical(three$lengthscale, 1.8)
  expect_equal(tail(three$elbo, 1), -7150.9334, tolerance = 1e-7)
  # Each printed pattern against the one of ours that shares most genes with it.
  shared <- table(printed$pattern, three$genes$pattern)
  expect_identical(sum(apply(shared, 1, max)), 16L)
  expect_identical(anyDuplicated(apply(shared, 1, which.max)), 0L)

  bounds <- fit(2:6, 1.8)$selection$bound
  expect_equal(
    bounds,
    c(-7221.9115, -7150.9334, -7142.4007, -7134.1314, -7127.6356),
    tolerance = 1e-7
  )
})

test_that("a lengthscale that is too short for so many spots is named", {
  coords <- expand.grid(x = 1:120, y = 1:100)
  y <- withr::with_seed(1, matrix(rnorm(24000), 2, dimnames = list(c("a", "b"), NULL)))
  fit <- \(...) spatial_patterns(y, coords, c("a", "b"), 1, normalization = "none", threads = 2, ...)
  expect_error(
    fit(lengthscale = c(0.51, 20)),
    "12000 locations .* SE kernel of lengthscale 0.51",
    class = "patina_error_approximation"
  )
  expect_identical(fit(lengthscale = 20)$lengthscale, 20)
})

test_that("the exact decomposition gives the patterns of the approximated one", {
  tissue <- example_tissue(n_spots = 1100, n_genes = 12)
  genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
  fit <- \(approximation) {
    spatial_patterns(
      tissue$counts,
      tissue$sample_info[c("x", "y")],
      genes,
      n_patterns = 2,
      lengthscale = 6,
      restarts = 2,
      approximation = approximation,
      threads = 2
    )
  }
  exact <- fit("exact")
  auto <- fit("auto")
  expect_equal(auto$elbo, exact$elbo, tolerance = 1e-6)
  expect_identical(auto$genes$pattern, exact$genes$pattern)
  expect_equal(auto$patterns$value, exact$patterns$value, tolerance = 1e-4)
  expect_equal(predict(auto)$se, predict(exact)$se, tolerance = 1e-4)
})

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
