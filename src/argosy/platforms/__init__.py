"""Where databases run: each platform is a package here and knows the domain only."""
