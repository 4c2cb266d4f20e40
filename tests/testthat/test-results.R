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

test_that("results print in one screen, with how they were made", {
  withr::local_options(width = 80, cli.unicode = FALSE)
  local_reproducible_output(width = 80)
  printed <- function(x) gsub(" +", " ", capture.output(print(x)))
  run <- c(
    "# spots: 64 in 2-D",
    "# kernels: 3 SE (lengthscales 0.5 to 20.1), 1 linear",
    "# method: normalization pearson, p-values calibrated"
  )
  test <- printed(fake_test())
  hits <- "# genes: 30 with qval < 0.05, 1 not tested (see status)"
  expect_equal(test[1:5], c("# A spatial test: 42 \u00d7 18", run, hits))
  # below that pillar prints, each version in its own way
  expect_match(test[[6L]], "^ ?gene status n model lengthscale fsv fsv_se llr pval")
  expect_match(test[[8L]], "1 Slope ok 64 SE 2 0.9 0.02 1 2.23e-308")
  expect_match(test, "32 more rows", all = FALSE)
  expect_match(paste(test, collapse = " "), "loglik_null <dbl>,.* bic <dbl>")
  expect_lte(length(test), 24L)

  models <- printed(fake_models())
  expect_equal(models[1:5], c("# A model search: 9 \u00d7 11", run, "# genes: 3 PER, 3 SE, 3 linear"))
  expect_match(models[[6L]], "^ ?gene model lengthscale loglik bic fsv prob_SE")
  expect_match(models[[9L]], "2 Stripe PER 2 0 1 0.5 0.8 0.1 0.1")

  some <- printed(fake_test()[1:3, c("gene", "pval")])
  expect_equal(some[1:4], c("# A spatial test: 3 \u00d7 2", run))
  expect_match(some[7:9], "Slope 2.23e-308|Stripe 1 e-120|gene3 1 e- 60")
  bare <- fake_test()
  attr(bare, "patina") <- NULL
  expect_match(capture.output(print(bare))[[1L]], "A spatial test")
})

test_that("dplyr verbs keep results, or give a plain table", {
  skip_if_not_installed("dplyr")
  results <- fake_test()
  kept <- results |>
    dplyr::filter(qval < 0.05) |>
    dplyr::arrange(dplyr::desc(fsv)) |>
    dplyr::mutate(rank = dplyr::row_number()) |>
    dplyr::select(gene, rank, fsv, log10_pval, qval)
  expect_s3_class(kept, "patina_test")
  expect_equal(attr(kept, "patina"), attr(results, "patina"))
  expect_draws(plot_test(kept))
  expect_draws(plot_genes(fake_tissue()$counts, fake_tissue()$coords, genes = kept, n_genes = 2))
  for (table in list(
    dplyr::summarise(results, n = sum(qval < 0.05, na.rm = TRUE)),
    dplyr::count(results, status),
    dplyr::group_by(results, status),
    dplyr::ungroup(dplyr::group_by(results, status)),
    dplyr::bind_rows(results, results),
    dplyr::left_join(results, fake_models()["gene"], by = "gene"),
    dplyr::slice_min(results, pval, n = 3),
    dplyr::rename(results, p = pval, q = qval, s = status)
  )) {
    expect_no_condition(out <- capture.output(print(table)), class = "warning")
    expect_s3_class(table, "tbl_df")
  }
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
