row_data <- function(x) as.data.frame(SummarizedExperiment::rowData(x))

col_data <- function(x) as.data.frame(SummarizedExperiment::colData(x))

test_that("a test goes into rowData by gene name", {
  spe <- fake_se()
  results <- fake_test()[c(42, 2, 1), ]
  added <- add_results(spe, results)
  rows <- row_data(added)
  expect_equal(names(rows), c("symbol", paste0("patina_", setdiff(names(results), "gene"))))
  expect_equal(rows$symbol, row_data(spe)$symbol)
  expect_equal(rows["Slope", "patina_log10_pval"], -400)
  expect_equal(rows["Stripe", "patina_fsv"], results$fsv[[2L]])
  expect_equal(rows["Silent", "patina_status"], "constant")
  expect_true(all(is.na(rows["Noise", -1L])))
  expect_identical(SummarizedExperiment::assays(added), SummarizedExperiment::assays(spe))
  expect_identical(col_data(added), col_data(spe))
})

test_that("adding twice gives the identical object", {
  for (class in c("SummarizedExperiment", "SingleCellExperiment", "SpatialExperiment")) {
    if (!requireNamespace(class, quietly = TRUE)) {
      next
    }
    spe <- fake_se(class)
    for (result in list(fake_test()[1:2, ], fake_models()[1:2, ], fake_patterns())) {
      once <- add_results(spe, result)
      expect_identical(add_results(once, result), once)
      expect_s4_class(once, class)
      spe <- once
    }
  }
})

test_that("a later, smaller result leaves nothing of an earlier one", {
  results <- fake_test()[1:2, ]
  added <- add_results(add_results(fake_se(), results), results[1, ])
  expect_identical(added, add_results(fake_se(), results[1, ]))
  three <- add_results(fake_se("SingleCellExperiment"), fake_patterns(3L))
  expect_equal(
    col_data(add_results(three, fake_patterns(2L))),
    col_data(add_results(fake_se("SingleCellExperiment"), fake_patterns(2L)))
  )
})

test_that("a model search and a test do not replace each other", {
  test <- fake_test()[1:2, ]
  models <- fake_models()[1:2, ]
  rows <- row_data(add_results(add_results(fake_se(), test), models))
  expect_equal(rows$patina_model, c("SE", "SE", NA, NA))
  expect_equal(rows$patina_search_model, c("SE", "PER", NA, NA))
  expect_equal(rows$patina_prob_SE, c(0.8, 0.8, NA, NA))
  expect_true(all(startsWith(setdiff(names(rows), "symbol"), "patina_")))
})

test_that("patterns go into colData, rowData and reducedDims", {
  patterns <- fake_patterns()
  spe <- fake_se()[, 64:1]
  added <- add_results(spe, patterns)
  columns <- col_data(added)
  expect_equal(names(columns), c("cluster", "patina_pattern_1", "patina_pattern_2"))
  expect_equal(columns$patina_pattern_1, rev(patterns$patterns$value[1:64]))
  rows <- row_data(added)
  expect_equal(rows$patina_pattern, c(1L, 2L, 2L, NA))
  expect_equal(rows$patina_membership, c(1, 0.99, 0.7, NA))

  skip_if_not_installed("SingleCellExperiment")
  single <- add_results(fake_se("SingleCellExperiment"), patterns)
  scores <- SingleCellExperiment::reducedDim(single, "patina_patterns")
  expect_equal(dim(scores), c(64L, 2L))
  expect_equal(unname(scores[, 2L]), patterns$patterns$value[65:128])
  expect_equal(rownames(scores), colnames(single))
})

test_that("some unknown genes or spots are a warning, only unknown ones an error", {
  expect_warning(
    add_results(fake_se(), fake_test()),
    "39 genes of `results` are not in `spe`.*\"gene4\", \"gene5\"",
    class = "patina_warning_unknown_genes"
  )
  expect_warning(
    add_results(fake_se()[, 1:10], fake_patterns()),
    class = "patina_warning_unknown_spots"
  )
  expect_error(add_results(fake_se(), fake_test()[5:7, ]), class = "patina_error_names")
  expect_snapshot(error = TRUE, {
    add_results(fake_se(), fake_test()[5:7, ])
    add_results(fake_tissue()$counts, fake_test())
    add_results(fake_se(), fake_test()["fsv"])
    add_results(fake_se(), "results")
  })
})

test_that("no rows is no gene tested, not an error", {
  rows <- row_data(add_results(fake_se(), fake_test()[0, ]))
  expect_true(all(is.na(rows$patina_pval)))
  expect_type(rows$patina_pval, "double")
})

test_that("names that are not unique are matched in order, or not at all", {
  spe <- fake_se()
  rownames(spe) <- c("a", "a", "b", "c")
  all <- tibble::tibble(gene = rownames(spe), fsv = 1:4 / 10)
  expect_no_warning(added <- add_results(spe, all))
  expect_equal(SummarizedExperiment::rowData(added)$patina_fsv, 1:4 / 10)
  for (some in list(all[c(1, 3), ], all[1:3, ])) {
    expect_warning(added <- add_results(spe, some), class = "patina_warning_duplicated_genes")
    expect_equal(SummarizedExperiment::rowData(added)$patina_fsv, c(NA, NA, 0.3, NA))
  }
})

test_that("objects without names are matched by the names that patina gave", {
  spe <- fake_se()
  dimnames(spe) <- NULL
  added <- add_results(spe, tibble::tibble(gene = c("gene3", "gene1"), fsv = c(0.3, 0.1)))
  expect_equal(SummarizedExperiment::rowData(added)$patina_fsv, c(0.1, NA, 0.3, NA))
  expect_null(rownames(added))
})

test_that("real results print, plot and go into objects", {
  skip_if_not_installed("SingleCellExperiment")
  tissue <- example_tissue()
  coords <- tissue$sample_info[c("x", "y")]
  results <- spatial_test(tissue$counts, coords, threads = 1)
  expect_match(capture.output(print(results))[1:4], "spatial test|300 in 2-D|10 SE|calibrated")
  hits <- results[order(results$log10_pval), ][1:4, ]
  expect_draws(plot_test(results))
  expect_draws(plot_genes(tissue$counts, coords, genes = hits, normalization = "pearson"))
  patterns <- spatial_patterns(tissue$counts, coords, hits, 2, 3, threads = 1)
  expect_draws(plot_patterns(patterns))

  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = tissue$counts))
  added <- add_results(add_results(sce, hits), patterns)
  expect_identical(add_results(add_results(added, hits), patterns), added)
  expect_equal(sum(!is.na(row_data(added)$patina_pval)), 4L)
  expect_equal(sum(!is.na(row_data(added)$patina_pattern)), 4L)
  expect_equal(col_data(added)$patina_pattern_2, patterns$patterns$value[301:600])
})

test_that("an object without names must be the one that was analysed", {
  tissue <- example_tissue(n_spots = 60, n_genes = 30)
  xy <- tissue$sample_info[c("x", "y")]
  counts <- unname(as.matrix(tissue$counts))
  results <- spatial_test(counts, unname_rows(xy), threads = 1)
  factors <- spatial_factors(counts, unname_rows(xy), n_factors = 2, threads = 1)
  domains <- spatial_domains(factors, 2, threads = 1)
  se <- SummarizedExperiment::SummarizedExperiment(list(counts = counts))
  expect_equal(row_data(add_results(se, results[3:1, ]))$patina_llr[1:3], results$llr[1:3])
  expect_equal(col_data(add_results(se, factors))$patina_factor_1, factors$factors$factor_1)
  for (result in list(results, results[1:3, ], factors)) {
    expect_error(add_results(se[-1, ], result), "no names.*29.*30", class = "patina_error_names")
  }
  for (result in list(factors, domains, domains[1:3, ])) {
    expect_error(add_results(se[, -1], result), "no names.*59.*60", class = "patina_error_names")
  }
})

test_that("spots of several samples are matched by sample and name, in any order", {
  tissue <- example_tissue(n_spots = 120, n_genes = 30)
  slide <- rep(c("s1", "s2"), each = 60)
  barcode <- rep(sprintf("bc%02d", 1:60), 2)
  counts <- tissue$counts
  colnames(counts) <- barcode
  xy <- unname_rows(tissue$sample_info[c("x", "y")])
  factors <- spatial_factors(counts, xy, n_factors = 2, sample_id = slide, threads = 1)
  domains <- spatial_domains(factors, 2, threads = 1)
  se <- SummarizedExperiment::SummarizedExperiment(
    list(counts = counts),
    colData = S4Vectors::DataFrame(batch = "one", slide = slide)
  )
  expected <- factors$factors$factor_1
  for (spots in list(1:120, c(61:120, 1:60), 120:1, 61:90, c(5, 65))) {
    added <- suppressWarnings(add_results(se[, spots], factors), classes = "patina_warning_unknown_spots")
    expect_equal(col_data(added)$patina_factor_1, expected[spots])
    added <- suppressWarnings(add_results(se[, spots], domains), classes = "patina_warning_unknown_spots")
    expect_identical(col_data(added)$patina_domain, domains$domain[spots])
  }
  # nothing says which sample is which
  se$slide <- NULL
  expect_warning(add_results(se[, 120:1], factors), class = "patina_warning_duplicated_spots")
})

test_that("domains are taken as a plain table, and what is no result is refused", {
  domains <- tibble::tibble(spot = paste0("spot", 1:64), domain = factor(rep(1:2, 32)), probability = 1)
  added <- add_results(fake_se(), domains)
  expect_identical(col_data(added)$patina_domain, domains$domain)
  for (bad in list(domains[c("spot", "domain")], domains[0, ])) {
    expect_error(add_results(added, bad), class = "patina_error_argument")
  }
  lost <- structure(domains["spot"], class = c("patina_domains", class(domains)))
  expect_error(add_results(added, lost), "domain", class = "patina_error_argument")
  expect_error(add_results(added, domains, columns = "domain"), "columns", class = "patina_error_argument")
  expect_error(add_results(added, fake_patterns(), columns = "x"), "columns", class = "patina_error_argument")
  field <- structure(tibble::tibble(gene = "a", mean = 1), class = c("patina_field", class(domains)))
  expect_error(add_results(added, field), "plot_gene_field", class = "patina_error_argument")
})
