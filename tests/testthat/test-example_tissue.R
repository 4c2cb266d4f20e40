test_that("the example is the same everywhere and leaves the generator alone", {
  withr::local_seed(7)
  before <- .Random.seed
  tissue <- example_tissue()
  expect_identical(.Random.seed, before)
  expect_identical(dim(tissue$counts), c(200L, 300L))
  # fixed values: another platform or another version of R must give them too
  expect_identical(sum(tissue$counts), 858459)
  expect_identical(
    unname(as.matrix(tissue$counts)[1:2, 1:5]),
    rbind(c(18, 11, 16, 11, 4), c(9, 6, 5, 4, 16))
  )
  withr::with_seed(
    5,
    expect_identical(example_tissue(), tissue),
    .rng_kind = "L'Ecuyer-CMRG",
    .rng_sample_kind = "Rounding"
  ) |>
    suppressWarnings()
  expect_false(identical(example_tissue(seed = 2)$counts, tissue$counts))
  expect_snapshot(print(tissue))
})

test_that("a session without random numbers keeps its clean slate", {
  withr::local_seed(1)
  kind <- RNGkind()
  rm(".Random.seed", envir = globalenv())
  example_tissue(20, 5)
  expect_false(exists(".Random.seed", globalenv(), inherits = FALSE))
  expect_identical(RNGkind(), kind)
})

test_that("the example's sizes are as asked for", {
  for (n in c(5, 17, 61, 1000)) {
    tissue <- example_tissue(n, 9)
    expect_identical(dim(tissue$counts), c(9L, as.integer(n)))
    distances <- stats::dist(tissue$sample_info[c("x", "y")])
    expect_equal(min(distances), 1)
    expect_identical(rownames(tissue$sample_info), colnames(tissue$counts))
    expect_identical(tissue$truth$gene, rownames(tissue$counts))
  }
  expect_identical(dim(example_tissue(30, 1)$counts), c(1L, 30L))
  expect_error(example_tissue(4), class = "patina_error_argument")
  expect_error(example_tissue(n_genes = 0), class = "patina_error_argument")
  expect_error(example_tissue(seed = "a"), class = "patina_error_argument")
})

test_that("the example's patterns are in its counts, and in no spot's expected total", {
  tissue <- example_tissue()
  truth <- tissue$truth
  patterns <- tissue_patterns(tissue$sample_info)
  totals <- colSums(truth$mean * (1 + truth$amplitude * t(patterns[, truth$pattern])))
  expect_equal(totals, rep(totals[1], 300))

  coords <- tissue$sample_info[c("x", "y")]
  input <- as_input(tissue$counts, coords)
  residuals <- new_normalizer(input)(input_block(input, 1:200), 1:200)
  found <- stats::cor(residuals, patterns[, -1])
  best <- colnames(found)[max.col(found)]
  spatial <- truth$pattern != "none"
  expect_identical(best[spatial], truth$pattern[spatial])

  for (normalization in c("anscombe", "pearson")) {
    hits <- spatial_test(tissue$counts, coords, normalization = normalization)$qval < 0.05
    expect_true(all(hits[spatial]))
    expect_lte(sum(hits[!spatial]), 5)
  }
})

test_that("automatic expression histology finds the example's patterns", {
  # Hubert and Arabie's index: pairs of genes that two partitions agree on, beyond chance
  adjusted_rand <- function(a, b) {
    table <- table(a, b)
    pairs <- \(counts) sum(choose(counts, 2))
    rows <- pairs(rowSums(table))
    columns <- pairs(colSums(table))
    chance <- rows * columns / choose(sum(table), 2)
    (pairs(table) - chance) / ((rows + columns) / 2 - chance)
  }
  tissue <- example_tissue()
  spatial <- tissue$truth$pattern != "none"
  found <- spatial_patterns(
    tissue$counts,
    tissue$sample_info[c("x", "y")],
    genes = tissue$truth$gene[spatial],
    n_patterns = 4,
    lengthscale = 3
  )
  expect_gt(adjusted_rand(found$genes$pattern, tissue$truth$pattern[spatial]), 0.95)
})

test_that("the example comes as a SpatialExperiment", {
  skip_if_not_installed("SpatialExperiment")
  tissue <- example_tissue(50, 8)
  spe <- example_tissue(50, 8, as = "SpatialExperiment")
  input <- as_input(spe)
  expect_identical(input_block(input, 1:8), unname(t(as.matrix(tissue$counts))))
  expect_identical(
    unname(input$coords),
    unname(as.matrix(tissue$sample_info[c("x", "y")]))
  )
  expect_identical(input$samples$total_counts, unname(tissue$sample_info$total_counts))
  expect_identical(SummarizedExperiment::rowData(spe)$pattern, tissue$truth$pattern)
})
