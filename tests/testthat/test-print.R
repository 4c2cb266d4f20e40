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

test_that("numbers print the same whatever the decimal mark is", {
  tissue <- example_tissue(n_spots = 60, n_genes = 12)
  results <- spatial_test(tissue$counts, tissue$sample_info[c("x", "y")])
  header <- tbl_sum(results)
  withr::local_options(OutDec = ",")
  expect_no_warning(expect_identical(names(tbl_sum(results)), names(header)))
  expect_no_warning(utils::capture.output(summary(results)))
})

test_that("counts are written out", {
  expect_equal(count_text(c(1e5, 12, 1234567)), c("100,000", "12", "1,234,567"))
  withr::local_options(OutDec = ",")
  expect_equal(count_text(1e5), "100,000")
  expect_error(
    example_tissue(n_spots = 2e6),
    "at least 5 and at most 1,000,000",
    class = "patina_error_argument"
  )
  expect_error(example_tissue(seed = 0.5), "of at least -2,147,483,647 and at most 2,147,483,647")
})
