"""What providers' answers mean for the requests that follow: rates, windows, breaker, money."""
