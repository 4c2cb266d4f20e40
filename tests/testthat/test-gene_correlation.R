tissue <- example_tissue(n_spots = 200, n_genes = 80)
xy <- tissue$sample_info[c("x", "y")]
genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
found <- gene_correlation(tissue$counts, xy, genes, threads = 1)

test_that("genes of a pattern are a module", {
  expect_s3_class(found, "patina_correlation")
  expect_identical(found$modules$gene, genes)
  kind <- tissue$truth$pattern[match(genes, tissue$truth$gene)]
  expect_gt(mean(apply(table(kind, found$modules$module), 2, max) / tabulate(found$modules$module)), 0.9)
  expect_identical(max(found$modules$module, na.rm = TRUE), nlevels(factor(kind)))
  expect_null(found$choice)
  cut <- gene_correlation(tissue$counts, xy, genes, n_modules = 2:20, threads = 1)$choice
  expect_identical(cut$n_modules[[which.max(cut$silhouette)]], nlevels(factor(kind)))
  expect_identical(dimnames(found$correlation), list(genes, genes))
  expect_true(isSymmetric(found$z))
  expect_equal(unname(diag(found$correlation)), rep(1, length(genes)))
  expect_true(all(is.na(diag(found$pval))))
})

test_that("modules are joined if their means correlate, and genes if they are alike", {
  # two blocks of genes and one without any relation to them
  names <- paste0("g", 1:29)
  blocks <- function(within, between, ..., noise = NULL) {
    block <- rep(1:3, c(12, 15, 2))
    r <- ifelse(outer(block, block, `==`), within, between)
    r[block == 3, ] <- r[, block == 3] <- 0
    diag(r) <- 1
    dimnames(r) <- list(names, NULL)
    find_modules(r, NULL, ..., spatial = !names %in% noise)$modules
  }
  two <- blocks(0.8, 0.5, min_genes = 10)
  expect_identical(two$module, rep(c(2L, 1L, NA), c(12, 15, 2)))
  expect_equal(two$silhouette, rep(c(1 - 0.2 / 0.5, NA), c(27, 2)))
  # 0.58 / 0.8 is more than 0.7
  expect_identical(blocks(0.8, 0.58, min_genes = 10)$module, rep(c(1L, NA), c(27, 2)))
  # the smaller block is no module: it joins the larger if it is alike
  expect_identical(blocks(0.8, 0.4, min_genes = 13)$module, rep(c(1L, NA), c(27, 2)))
  expect_identical(blocks(0.8, 0.2, min_genes = 13)$module, rep(c(NA, 1L, NA), c(12, 15, 2)))
  expect_identical(blocks(0.8, 0.2, min_genes = 30)$module, rep(NA_integer_, 29))
  expect_identical(max(blocks(0.8, 0.2, min_genes = 1)$module), 4L)
  # genes that are not spatial do not make a module large enough, but may join one
  some <- blocks(0.8, 0.2, min_genes = 10, noise = paste0("g", c(1:3, 13:14)))
  expect_identical(some$module, rep(c(NA, 1L, NA), c(12, 15, 2)))
})

test_that("noise has no modules", {
  set.seed(6)
  y <- matrix(stats::rnorm(200 * 225), 200, dimnames = list(paste0("g", 1:200), NULL))
  places <- expand.grid(x = 1:15, y = 1:15)
  found <- gene_correlation(y, places, rownames(y), normalization = "none", min_genes = 3, threads = 1)
  expect_true(all(is.na(found$modules$module)))
})

test_that("z is the sum over near pairs in its standard deviations", {
  y <- log1p(t(as.matrix(tissue$counts[genes[1:4], ])))
  raw <- gene_correlation(t(y), xy, genes[1:4], 2, normalization = "none", n_modules = 1, threads = 1)
  z <- apply(y, 2, \(v) (v - mean(v)) / sqrt(mean((v - mean(v))^2)))
  d <- as.matrix(dist(xy))
  k <- ifelse(d > 6, 0, exp(-d^2 / 8))
  diag(k) <- 0
  u <- k %*% z
  power <- colSums((u - rep(colMeans(u), each = 200))^2) * 200 / 199
  expected <- crossprod(z, u) / sqrt(outer(power, power, pmax))
  off <- upper.tri(expected)
  expect_equal(raw$z[off], expected[off], tolerance = 1e-4)
  expect_equal(raw$pval[off], 2 * pnorm(-abs(expected[off])), tolerance = 1e-2)
})

test_that("noise is not significant too often; threads and samples change what they should", {
  none <- setdiff(rownames(tissue$counts), genes)
  noise <- gene_correlation(tissue$counts, xy, none, n_modules = 2, threads = 2)
  p <- noise$pval[upper.tri(noise$pval)]
  expect_lt(mean(p < 0.05), 0.08)
  expect_identical(gene_correlation(tissue$counts, xy, genes, threads = 2), found)
  slides <- gene_correlation(
    tissue$counts,
    xy,
    genes,
    sample_id = rep(c("b", "a"), 100),
    n_modules = 3,
    threads = 1
  )
  expect_null(slides$choice)
  expect_identical(max(slides$modules$module, na.rm = TRUE), 3L)
})

test_that("modules go into objects", {
  skip_if_not_installed("SummarizedExperiment")
  se <- SummarizedExperiment::SummarizedExperiment(list(counts = tissue$counts))
  rows <- SummarizedExperiment::rowData(add_results(se, found))
  expect_identical(rows[genes, "patina_module"], found$modules$module)
  expect_true(all(is.na(rows[setdiff(rownames(se), genes), "patina_silhouette"])))
})

test_that("it prints and plots, and names mistakes", {
  lines <- capture.output(print(found))
  expect_match(lines[[1L]], "genes, .* modules at lengthscale")
  expect_true(all(nchar(lines) <= cli::console_width()))
  expect_silent(ggplot2::ggplot_build(plot_modules(found, n_genes = 10)))
  expect_error(plot_modules(tissue), class = "patina_error_argument")
  expect_error(gene_correlation(tissue$counts, xy, genes[[1L]]), class = "patina_error_data")
  expect_error(gene_correlation(tissue$counts, xy, genes, 0), class = "patina_error_argument")
  expect_error(gene_correlation(tissue$counts, xy, genes, 1e-6), "long enough", class = "patina_error")
  expect_error(gene_correlation(tissue$counts, xy, genes, n_modules = 500), class = "patina_error_argument")
})
