"""What tests are made with: servers, services, faults on the way, clocks, and the proof that the counts are exact."""
