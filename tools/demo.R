# `make demo`: the test of all genes of a tissue. Prints the result's head and the number of hits,
# writes demo/results.csv and demo/top_genes.png.
library(patina)
options(width = 100)

tissue <- tryCatch(
  {
    tissue <- load_dataset("mob")
    cat("Mouse olfactory bulb, genes with at least 3 counts\n\n")
    tissue
  },
  patina_error = function(cnd) {
    cat(
      "The olfactory bulb's data cannot be had here, so this is the simulated example tissue.\n\n"
    )
    example_tissue()
  }
)
counts <- tissue$counts[Matrix::rowSums(tissue$counts) >= 3, ]
coords <- tissue$sample_info[c("x", "y")]

seconds <- system.time(
  results <- spatial_test(counts, coords, sample_info = tissue$sample_info)
)[["elapsed"]]
hits <- results[which(results$qval < 0.05), ]
hits <- hits[order(hits$log10_pval), ]

print(hits)
cat(sprintf(
  "\n%d of %d genes are spatially variable (q-value < 0.05); tested in %.1f s.\n",
  nrow(hits),
  nrow(results),
  seconds
))

dir.create("demo", showWarnings = FALSE)
write.csv(results, "demo/results.csv", row.names = FALSE)
plot <- plot_genes(counts, coords, genes = head(hits$gene, 6), normalization = "pearson")
ggplot2::ggsave("demo/top_genes.png", plot, width = 9, height = 5, dpi = 120, bg = "white")
cat("Written: demo/results.csv (all genes), demo/top_genes.png (the first six of the above).\n")
