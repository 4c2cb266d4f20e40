test_that("top_genes() gives the genes with the smallest p-values, also below the smallest double", {
  results <- fake_test()
  mixed <- results[order(results$gene), ]
  expect_identical(top_genes(mixed, 3)$gene, c("Slope", "Stripe", "gene3"))
  expect_s3_class(top_genes(mixed), "patina_test")
  expect_identical(nrow(top_genes(mixed)), 10L)
  # the pseudo-gene has a p-value, the untested gene none
  expect_identical(nrow(top_genes(mixed, 100)), 41L)
  expect_identical(nrow(top_genes(mixed, 0)), 0L)
  expect_identical(top_genes(fake_models(), 2)$gene, c("Slope", "Stripe"))
  expect_error(top_genes(1:3), "table of results", class = "patina_error_argument")
  expect_error(top_genes(data.frame(gene = "a")), "pval", class = "patina_error_argument")
  expect_error(top_genes(results, 1.5), "whole number", class = "patina_error_argument")
})

test_that("a result prints its main columns on 80 columns, and ranks its genes", {
  withr::local_options(width = 80)
  tissue <- example_tissue(60, 20)
  results <- spatial_test(tissue$counts, tissue$sample_info[c("x", "y")], threads = 1)
  shown <- paste(format(results), collapse = "\n")
  header <- strsplit(shown, "\n")[[1L]]
  header <- header[grepl("gene .*status", header)]
  for (name in c("gene", "status", "fsv", "llr", "pval", "qval")) {
    expect_match(header, name)
  }
  expect_match(header, "leng")
  expect_identical(order(results$rank), order(results$log10_pval))
  expect_null(attr(results, "patina")$seconds)
})

test_that("summary() counts what was tested, by status and by kernel", {
  tissue <- example_tissue(60, 20)
  counts <- as.matrix(tissue$counts)
  counts[3, ] <- 0
  results <- spatial_test(counts, tissue$sample_info[c("x", "y")], progress = TRUE, threads = 1)
  summary <- summary(results)
  expect_identical(sum(summary$status$genes), 20L)
  expect_identical(summary$status$genes[summary$status$status == "all-zero"], 1L)
  expect_identical(summary$hits, sum(results$qval < 0.05, na.rm = TRUE))
  expect_identical(sum(summary$lengthscales$hits), summary$hits)
  expect_gt(summary$run$seconds, 0)
  expect_output(print(summary), "20 genes tested in .* s: .* with qval < 0.05\nnot ok: 1 all-zero")
  none <- summary(results[0, ])
  expect_output(print(none), "0 genes tested")
  expect_error(summary(results, fdr = 2), "fdr", class = "patina_error_argument")
})
